"""What connects ingress and batches to everything else: the log, the stores, the configuration, and the mailboxes of what they begin.

Both begin requests and hear of them in the same way; what differs is who asks, clients at a port or the lines of files. A
process that is started without Kafka or a store waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ingress.gatekeeper.gatekeeper import UNPRODUCED_S
from ingress.gatekeeper.log_gate import LogGate
from ingress.health.watch import HealthWatch
from ingress.replies.mailbox import PendingRequests
from ingress.replies.upkeep import Upkeep
from ingress.request_settings import RequestSettings
from ingress.requests.begin import RequestStarter
from ingress.requests.cancellations import Cancellations
from ingress.requests.claims import Claims
from ingress.requests.exact_counts import ExactCounts
from ingress.requests.job_list import JobList
from ingress.requests.lookup import RequestLookup
from ingress.requests.resumption import Resumption
from ingress.requests.silence import Silence
from ingress.requests.tokenizer_files import TokenizerFiles
from schemas.ledger.shards import Shards
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.outcome_lookup import OutcomeLookup
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.kafka.record_reader import RecordReader
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.ledger.meetings import Meetings
from schemas.runtime.ledger.time_source import LedgerTime
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.connect import connect, read_config
from schemas.runtime.process.loop_counts import expose_loop
from schemas.runtime.process.self_report import SelfReport
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.traces import Tracing, tracing_of
from schemas.runtime.process.tracing import Tracer
from schemas.runtime.valkey.bodies import Bodies
from schemas.runtime.valkey.bus import Bus, channel_of
from schemas.runtime.valkey.store import Store
from schemas.runtime.valkey.subscription import Subscription
from schemas.topics import AUDIT, BACKGROUND, OUTCOMES, REQUESTS

_TIME_LOOK_S: Final = 0.05

Work = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Plumbing:
    """The connections of one process that begins requests."""

    settings: RequestSettings
    role: str
    clock: Clock
    metrics: Metrics
    config: ConfigFeed
    producer: Producer
    ledger_store: Store
    ledger: LedgerClient
    bus: Bus
    pending: PendingRequests
    subscription: Subscription
    lookup: RequestLookup
    watch: HealthWatch
    ledger_time: LedgerTime
    tracing: Tracing | None
    """Where requests are traced."""
    connected: set[str] = field(default_factory=set)

    @classmethod
    def create(cls, settings: RequestSettings, role: str) -> Plumbing:
        """Build all parts; nothing connects before ``connect``. Call it inside the running loop."""
        clock, metrics = Clock(), Metrics()
        expose_loop(metrics)
        tracing = tracing_of(settings, role, clock, metrics)
        tracer = None if tracing is None else tracing.tracer
        brokers = settings.kafka_brokers
        producer = Producer(
            brokers, settings.instance_id, on_appended=clock.learn_broker, tracer=tracer
        )
        producer.expose(metrics)
        config = ConfigFeed(brokers, settings.data_dir, verifier=settings.config_verifier)
        bus = Bus(settings.bus_url, settings.times)
        bus.store.expose(metrics, "bus")
        meetings = Meetings()
        store = ledger_store(settings.ledger_url, settings.times.ledger, meetings)
        store.expose(metrics, "ledger")
        ledger = LedgerClient(
            store, meetings=meetings, epochs=lambda: config.snapshot.ledger_epochs, tracer=tracer
        )
        pending = PendingRequests()
        return cls(
            settings=settings,
            role=role,
            clock=clock,
            metrics=metrics,
            config=config,
            producer=producer,
            ledger_store=store,
            ledger=ledger,
            bus=bus,
            pending=pending,
            subscription=Subscription(
                settings.bus_url,
                channel_of(settings.instance_id),
                pending.on_message,
                pending.on_subscribed,
            ),
            lookup=RequestLookup(ledger, bus, OutcomeLookup(brokers), RecordReader(brokers), clock),
            watch=HealthWatch(
                config,
                lambda: ledger.known,
                store,
                bus.store,
                producer.ask_broker,
                clock,
                settings.disk_free_min_bytes,
            ),
            ledger_time=LedgerTime(clock, store, metrics),
            tracing=tracing,
        )

    @property
    def tracer(self) -> Tracer | None:
        """Who records spans; ``None`` where nothing is traced."""
        return None if self.tracing is None else self.tracing.tracer

    def starter(self, gate: LogGate, keys_max: int, jobs_max: int) -> RequestStarter:
        """Who begins requests here; of an organization so many keys and jobs are remembered."""
        ledger, bus, settings = self.ledger, self.bus, self.settings
        return RequestStarter(
            gatekeeper=gate,
            claims=Claims(ledger, self.lookup, keys_max),
            jobs=JobList(ledger, jobs_max),
            producer=self.producer,
            bodies=Bodies(bus),
            pending=self.pending,
            cancellations=Cancellations(ledger, bus),
            resumption=Resumption(ledger, self.lookup, bus),
            reply_to=channel_of(settings.instance_id),
            counts=ExactCounts(files=TokenizerFiles(settings.tokenizers_dir)),
        )

    def components(self) -> dict[str, str]:
        """Component to ``ok`` or what is wrong with it."""
        is_listening = self.subscription.subscribed and self.bus.store.connected
        has_config = self.config.following or self.config.snapshot.offset >= 0
        unproduced_s = self.producer.unacknowledged_s
        state = self.watch.silences.component
        return {
            "kafka": f"no acknowledgement for {unproduced_s:.0f} s"
            if unproduced_s > UNPRODUCED_S
            else state("kafka", is_connected="kafka" in self.connected),
            "bus": state("bus", is_connected=is_listening),
            "config": "ok" if has_config else "nothing read yet",
            "ledger": state("ledger", is_connected=True)
            if self.ledger_store.connected
            else self.ledger_store.trouble,
            "clock": self.clock.component,
        }

    def background(self, trouble: Callable[[], Mapping[str, str]]) -> dict[str, Work]:
        """What runs beside the requests, by name; ``trouble`` is what the process reports of itself."""
        upkeep = Upkeep(self.pending, self.bus)
        forever: dict[str, Work] = {
            "sweep": upkeep.sweep_forever,
            "catch up": upkeep.catch_up_forever,
            "silence": Silence(self.pending, self.ledger, self.lookup).run,
            "report": lambda: self._report(trouble),
            "health watch": self.watch.run,
            "ledger time": self.ledger_time.run,
        }
        if self.tracing is not None:
            forever["traces"] = self.tracing.exporter.run
        return forever

    async def connect(self) -> None:
        """Connect what requests need, however long it takes."""
        await asyncio.gather(
            self._connect("bus", self.bus.start),
            self._connect("subscription", self.subscription.start),
            self._connect("kafka", self._start_producer),
            read_config(self.config),
            self._learn_time(),
        )

    async def disconnect(self) -> None:
        """End it all, the log last but one: what is on its way reaches it."""
        await self.lookup.stop()
        await self.producer.stop()
        if self.tracing is not None:
            await self.tracing.exporter.stop()
        await self.config.stop()
        await self.subscription.stop()
        await asyncio.gather(self.bus.stop(), self.ledger_store.stop())

    async def _report(self, trouble: Callable[[], Mapping[str, str]]) -> None:
        """Report itself for ever; to be connected is no condition of serving."""
        if "ledger" not in self.connected:
            await self._connect("ledger", self.ledger_store.start)
        await SelfReport(
            self.settings,
            self.role,
            self.config,
            self.ledger_store,
            self.bus.store,
            self.clock,
            trouble,
        ).run()

    async def _start_producer(self) -> None:
        """Connect to the log, which also says how many shards the ledger has."""
        await self.producer.start((REQUESTS, BACKGROUND, AUDIT, OUTCOMES))
        await self.ledger.learn(Shards(self.producer.partitions(OUTCOMES)))

    async def _connect(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        await connect(name, start)
        self.connected.add(name)

    async def _learn_time(self) -> None:
        """Ids, deadlines and the ends of keys are in the ledger's time: without it nobody is served."""
        while self.clock.error_ms is None:  # noqa: ASYNC110  # measured beside this, a clock has no event
            await asyncio.sleep(_TIME_LOOK_S)
