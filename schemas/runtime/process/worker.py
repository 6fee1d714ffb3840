"""What the three Faust workers share: their plumbing, its order of start and stop, and the signals.

A worker's composition root creates a ``Worker``, adds inboxes and background tasks, and runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from faust.exceptions import ConsumerNotStarted

from schemas.ledger.shards import Shards
from schemas.log_events import LogEvent
from schemas.metrics import FROM_ZERO
from schemas.readiness import DEGRADED, PAUSED
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.consume.dead_letters import DeadLetters
from schemas.runtime.kafka.consume.faust_app import WorkerApp, create_faust_app
from schemas.runtime.kafka.consume.inbox import Handler, Inbox, OnDefect
from schemas.runtime.kafka.consume.lag import Lag, lag_of
from schemas.runtime.kafka.consume.processed import ProcessedMarks
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.consume.watchdog import Watchdog
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.kafka.spans import receiving
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.ledger.meetings import Meetings
from schemas.runtime.ledger.time_source import LedgerTime
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.loop_counts import expose_loop
from schemas.runtime.process.run import told_to_end
from schemas.runtime.process.self_report import SelfReport
from schemas.runtime.process.settings import WorkerSettings
from schemas.runtime.process.shown import expose_components, expose_config
from schemas.runtime.process.status_pages import StatusPages
from schemas.runtime.process.tasks import keep_running
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.traces import Tracing, tracing_of
from schemas.runtime.process.tracing import Tracer
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import Store, StoreUnavailable
from schemas.topics import OUTCOMES, group_of

_LOG = EventLog(__name__)

_STOP_DEADLINE_S = 36.0
"""A supervisor kills after 40 s: 4 for the hand-over, 28 for the longest drain, the rest for what follows."""
_HAND_OVER_WITHIN_S = 4.0
_BATCHES_END_WITHIN_S = 1.0
"""How long batches may end before partitions are handed over; calls that run longer go on after it."""
_COMMIT_WITHIN_S = 2.0

Background = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class WorkerShape:
    """What distinguishes one worker from another, as far as the plumbing cares."""

    role: str
    produces: Sequence[str]
    fetch_pause_s: float = 0.0
    """Between fetches, where nobody waits for the effect."""


@dataclass(slots=True)
class Worker:
    """The plumbing of one worker process."""

    settings: WorkerSettings
    shape: WorkerShape
    app: WorkerApp
    producer: Producer
    ledger_store: Store
    ledger: LedgerClient
    bus: Bus
    config: ConfigFeed
    metrics: Metrics
    clock: Clock
    ledger_time: LedgerTime
    dead_letters: DeadLetters
    tracing: Tracing | None = None
    """Where requests are traced."""
    inboxes: list[Inbox] = field(default_factory=list)
    background: list[Background] = field(default_factory=list)
    before_start: list[Background] = field(default_factory=list)
    """Called once everything is connected, before the first event."""
    before_drain: list[Background] = field(default_factory=list)
    """Called once nothing is read any more, to wait for what is under way."""
    before_stop: list[Background] = field(default_factory=list)
    """Called after the last event was handled, while everything is still connected."""
    checks: list[Callable[[], dict[str, str]]] = field(default_factory=list)
    """Components of readiness that only one worker has."""
    has_left: bool = False
    """Whether the partitions were handed to another member of the group: what still runs here is read
    there too, and its fences decide."""

    @classmethod
    def create(cls, settings: WorkerSettings, shape: WorkerShape) -> Worker:
        """Build all parts; nothing connects before ``run``."""
        clock, metrics = Clock(), Metrics()
        tracing = tracing_of(settings, shape.role, clock, metrics)
        tracer = None if tracing is None else tracing.tracer
        producer = Producer(
            settings.kafka_brokers,
            settings.instance_id,
            on_appended=clock.learn_broker,
            tracer=tracer,
        )
        meetings = Meetings()
        store = ledger_store(settings.ledger_url, settings.times.ledger, meetings)
        config = ConfigFeed(
            settings.kafka_brokers, settings.data_dir, verifier=settings.config_verifier
        )
        return cls(
            settings=settings,
            shape=shape,
            app=create_faust_app(
                group=group_of(shape.role),
                brokers=settings.kafka_brokers,
                instance_id=settings.instance_id,
                session_timeout_s=settings.session_timeout_s,
                data_dir=settings.data_dir,
                marks=ProcessedMarks(store),
                fetch_pause_s=shape.fetch_pause_s,
            ),
            producer=producer,
            ledger_store=store,
            ledger=LedgerClient(
                store,
                meetings=meetings,
                epochs=lambda: config.snapshot.ledger_epochs,
                tracer=tracer,
            ),
            bus=Bus(settings.bus_url, settings.times, tracer),
            config=config,
            metrics=metrics,
            clock=clock,
            ledger_time=LedgerTime(clock, store, metrics),
            dead_letters=DeadLetters.through(producer),
            tracing=tracing,
        )

    @property
    def tracer(self) -> Tracer | None:
        """Who records spans; ``None`` where nothing is traced."""
        return None if self.tracing is None else self.tracing.tracer

    def read(
        self,
        topic: str,
        handler: Handler,
        *,
        on_defect: OnDefect | None = None,
        defects_end_process: bool = False,
        **more: Any,
    ) -> None:
        """Feed a topic to a handler; ``more`` are options of ``Inbox``.

        A record that no handling mends goes to ``on_defect``, by default to the dead letters, unless
        it must not be skipped.
        """
        end = None if defects_end_process else on_defect or self.dead_letter
        transient_max_s = self.settings.times.transient_max_ms / 1000
        traces = None
        if (tracer := self.tracer) is not None:
            traces = partial(receiving, tracer, group_of(self.shape.role))
        inbox = Inbox(
            self.app,
            topic,
            handler,
            on_defect=end,
            transient_max_s=transient_max_s,
            on_delivered=traces,
            **more,
        )
        inbox.expose(self.metrics)
        self.inboxes.append(inbox)

    async def dead_letter(self, record: Record, error: Exception) -> None:
        """End a record that no handling mends: its bytes and the error are kept for an operator."""
        await self.dead_letters.take(record, "handle", error)
        self.metrics.count("tallygate_dead_letters_total", record.topic)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a part fails. Returns the exit status."""
        stop = told_to_end()
        pages = StatusPages(
            self.settings.host,
            self.settings.http_port,
            self.components,
            self.metrics,
            self.clock,
        )
        self._expose()
        await self._connect()
        for work in self.before_start:
            await work()
        await pages.start()
        tasks = self._start_background()
        await self.app.start()
        stopped = asyncio.create_task(stop.wait())
        crashed = asyncio.create_task(self.app.wait_until_stopped())
        done, _ = await asyncio.wait(
            [stopped, crashed, *tasks], return_when=asyncio.FIRST_COMPLETED
        )
        try:
            async with asyncio.timeout(_STOP_DEADLINE_S):
                await self.hand_over()
                for work in self.before_drain:
                    await work()
                await self._commit()
                await self.app.stop()
                for work in self.before_stop:
                    await work()
                await self._disconnect()
        finally:
            for task in (stopped, crashed, *tasks):
                task.cancel()
            await pages.stop()
        for task in done & set(tasks):
            task.result()
        return 0 if stopped in done else 1

    async def hand_over(self) -> None:
        """Read nothing more, and give the partitions to another member of the group, if there is one.

        What runs may go on: its records are read again over there, where the ledger's fences make them
        wait for it. Alone, the process keeps its place in the group, so that its next run takes over
        without a rebalance.
        """
        if not self.app.started or self.has_left:
            return
        late: TimeoutError | None = None
        try:
            async with asyncio.timeout(_HAND_OVER_WITHIN_S):
                await self._stop_reading()
                self.has_left = await self.app.direct_consumer.leave_group()
        except TimeoutError as error:
            late = error
        _LOG.event(LogEvent.HANDED_OVER if self.has_left else LogEvent.NOT_HANDED_OVER, error=late)

    async def _stop_reading(self) -> None:
        self.app.direct_consumer.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        for inbox in self.inboxes:
            inbox.drop_waiting()
        await asyncio.gather(
            *(inbox.wait_for_batches(_BATCHES_END_WITHIN_S) for inbox in self.inboxes)
        )
        await self.app.direct_consumer.commit()

    async def _commit(self) -> None:
        """Commit what ended since; after a hand-over there is nothing to commit here."""
        if not self.app.started or self.has_left:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMMIT_WITHIN_S):
                await asyncio.gather(
                    *(inbox.wait_for_batches(_COMMIT_WITHIN_S) for inbox in self.inboxes)
                )
                await self.app.direct_consumer.commit()

    def components(self) -> dict[str, str]:
        """Readiness: component to ``ok`` or what is wrong; each paused partition is one of them."""
        paused = {
            f"{topic}-{number}": f"{PAUSED}{cause}"
            for inbox in self.inboxes
            for (topic, number), cause in inbox.paused.items()
        }
        return {
            "ledger": "ok" if self.ledger_store.connected else self.ledger_store.trouble,
            "clock": self.clock.component,
            "bus": "ok" if self.bus.store.connected else f"{DEGRADED}not connected",
            "config": self.config.component,
            "consumer": "ok" if self._has_joined() else "left" if self.has_left else "joining",
            **paused,
            **{name: state for check in self.checks for name, state in check().items()},
        }

    def _is_reachable(self) -> bool:
        """Whether broker and ledger answer; time without them is no fault of a record."""
        if not self.app.started or not self.ledger_store.connected:
            return False
        return self.app.direct_consumer.has_coordinator

    def owned(self, topic: str) -> frozenset[int]:
        """Partitions of the topic that this process reads now."""
        if not self._has_joined():
            return frozenset()
        return frozenset(p.partition for p in self.app.consumer.assignment() if p.topic == topic)

    def _has_joined(self) -> bool:
        """Whether the consumer is a member of its group; it starts later than the app."""
        if not self.app.started or self.app.rebalancing or self.has_left:
            return False
        try:
            self.app.consumer.assignment()
        except ConsumerNotStarted:
            return False
        return True

    def _expose(self) -> None:
        expose_loop(self.metrics)
        self.producer.expose(self.metrics)
        self.ledger_store.expose(self.metrics, "ledger")
        self.bus.store.expose(self.metrics, "bus")
        expose_components(self.metrics, self.components)
        expose_config(self.metrics, self.config)
        self.metrics.look(
            "tallygate_consumer_lag_seconds",
            lambda: {(topic,): lag.age_s for topic, lag in self._lags()},
        )
        self.metrics.look(
            "tallygate_consumer_lag_records",
            lambda: {(topic,): float(lag.records) for topic, lag in self._lags()},
        )
        for inbox in self.inboxes:
            # What is first seen above 0 has not risen for whoever asks by how much.
            self.metrics.count("tallygate_dead_letters_total", inbox.topic, by=0)
        for name, *labels in FROM_ZERO.get(self.shape.role, ()):
            self.metrics.count(name, *labels, by=0)

    def _lags(self) -> Iterator[tuple[str, Lag]]:
        """How far each topic is behind, of the partitions that are ours; none before they are."""
        if not self._has_joined():
            return
        now_ms = self.clock.now_ms()
        for inbox in self.inboxes:
            unread = self.app.direct_consumer.member.unread(inbox.topic)
            yield inbox.topic, lag_of(inbox.window, unread, now_ms)

    async def _connect(self) -> None:
        await asyncio.gather(self.ledger_store.start(), self.bus.start(), self.config.start())
        await self.ledger_time.measure()
        if self.clock.error_ms is None:
            raise StoreUnavailable("the ledger does not tell its time")
        await self.producer.start((OUTCOMES, *self.shape.produces))
        await self.ledger.learn(Shards(self.producer.partitions(OUTCOMES)))

    async def _disconnect(self) -> None:
        await self.app.marks.write()
        await self.producer.stop()
        if self.tracing is not None:
            await self.tracing.exporter.stop()
        await self.config.stop()
        await asyncio.gather(self.ledger_store.stop(), self.bus.stop())

    async def _start_held(self) -> None:
        """The consumer exists once the app has started."""
        while not self.app.started:  # noqa: ASYNC110  # once, at the start
            await asyncio.sleep(_COMMIT_WITHIN_S)
        await self.app.direct_consumer.starts.keep()

    def _start_background(self) -> list[asyncio.Task[None]]:
        """The watchdog's failure ends the process; everything else is started again."""
        watchdog = Watchdog(
            self.inboxes,
            self.settings.times.stuck_after_ms / 1000,
            self.metrics,
            self._is_reachable,
        )

        report = SelfReport(
            self.settings,
            self.shape.role,
            self.config,
            self.ledger_store,
            self.bus.store,
            self.clock,
            self.components,
        )
        return [
            asyncio.create_task(watchdog.run()),
            *(
                asyncio.create_task(keep_running(work.__qualname__, work, self.metrics))
                for work in (
                    self.ledger_time.run,
                    report.run,
                    self.app.marks.keep,
                    self._start_held,
                    *(() if self.tracing is None else (self.tracing.exporter.run,)),
                    *self.background,
                )
            ),
        ]
