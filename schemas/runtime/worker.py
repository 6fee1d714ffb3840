"""What the three Faust workers share: their plumbing, its order of start and stop, and the signals.

A worker's composition root creates a ``Worker``, adds inboxes and background tasks, and runs it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from faust.exceptions import ConsumerNotStarted

from schemas.runtime.bus import Bus
from schemas.runtime.clock import Clock
from schemas.runtime.config import ConfigFeed
from schemas.runtime.config_report import report_config
from schemas.runtime.consume.dead_letters import DeadLetters
from schemas.runtime.consume.faust_app import WorkerApp, create_faust_app
from schemas.runtime.consume.inbox import Handler, Inbox
from schemas.runtime.consume.watchdog import watch
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.loop_counts import expose_loop
from schemas.runtime.produce import Producer
from schemas.runtime.settings import WorkerSettings
from schemas.runtime.store import StoreConnection
from schemas.runtime.telemetry import DEGRADED, Metrics, StatusPages

_STOP_DEADLINE_S = 30.0

Background = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class WorkerShape:
    """What distinguishes one worker from another, as far as the plumbing cares."""

    role: str
    produces: Sequence[str]
    stuck_after_s: float
    long_handlers: bool = False


@dataclass(slots=True)
class Worker:
    """The plumbing of one worker process."""

    settings: WorkerSettings
    shape: WorkerShape
    app: WorkerApp
    producer: Producer
    ledger_store: StoreConnection
    ledger: LedgerClient
    bus: Bus
    config: ConfigFeed
    metrics: Metrics
    clock: Clock
    dead_letters: DeadLetters
    inboxes: list[Inbox] = field(default_factory=list)
    background: list[Background] = field(default_factory=list)
    before_start: list[Background] = field(default_factory=list)
    """Called once everything is connected, before the first event."""
    before_drain: list[Background] = field(default_factory=list)
    """Called before the events under way are waited for, while new ones still arrive."""
    before_stop: list[Background] = field(default_factory=list)
    """Called after the last event was handled, while everything is still connected."""

    @classmethod
    def create(cls, settings: WorkerSettings, shape: WorkerShape) -> Worker:
        """Build all parts; nothing connects before ``run``."""
        producer = Producer(settings.kafka_brokers, settings.instance_id)
        store = ledger_store(settings.ledger_url)
        return cls(
            settings=settings,
            shape=shape,
            app=create_faust_app(
                group=f"tallygate-{shape.role}",
                brokers=settings.kafka_brokers,
                instance_id=settings.instance_id,
                session_timeout_s=settings.session_timeout_s,
                data_dir=settings.data_dir,
                long_handlers=shape.long_handlers,
            ),
            producer=producer,
            ledger_store=store,
            ledger=LedgerClient(store),
            bus=Bus(settings.bus_url),
            config=ConfigFeed(settings.kafka_brokers, settings.data_dir),
            metrics=Metrics(),
            clock=Clock(),
            dead_letters=DeadLetters.through(producer),
        )

    def read(self, topic: str, handler: Handler, **bounds: Any) -> None:
        """Feed a topic to a handler."""
        inbox = Inbox(self.app, topic, handler, **bounds)
        inbox.expose(self.metrics)
        self.inboxes.append(inbox)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a part fails. Returns the exit status."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        pages = StatusPages(
            self.settings.host, self.settings.http_port, self.components, self.metrics
        )
        self._expose()
        await self._connect()
        for work in self.before_start:
            await work()
        await pages.start()
        tasks = [asyncio.create_task(work()) for work in self._background()]
        await self.app.start()
        stopped = asyncio.create_task(stop.wait())
        crashed = asyncio.create_task(self.app.wait_until_stopped())
        done, _ = await asyncio.wait(
            [stopped, crashed, *tasks], return_when=asyncio.FIRST_COMPLETED
        )
        try:
            async with asyncio.timeout(_STOP_DEADLINE_S):
                for work in self.before_drain:
                    await work()
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

    async def disown_older_generations(self) -> None:
        """Before the drain, for workers that do not wait at rebalances: Faust must not wait now for
        events from before the last one. They are never acknowledged here; their owners read them."""
        if not self.app.started:
            return
        unacked = self.app.consumer.unacked
        for message in list(unacked):
            if message.generation_id != self.app.consumer_generation_id:
                unacked.discard(message)

    def components(self) -> dict[str, str]:
        """Readiness: component to ``ok`` or what is wrong."""
        return {
            "ledger": "ok" if self.ledger_store.connected else "not connected",
            "bus": "ok" if self.bus.store.connected else "not connected",
            "config": self._config_component(),
            "consumer": "ok" if self._has_joined() else "joining",
        }

    def _config_component(self) -> str:
        if self.config.alarm is not None:
            return f"{DEGRADED}{self.config.alarm}"
        return "ok" if self.config.is_read else "from the copy on disk"

    def _has_joined(self) -> bool:
        """Whether the consumer is a member of its group; its thread starts later than the app."""
        if not self.app.started or self.app.rebalancing:
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

    async def _connect(self) -> None:
        await asyncio.gather(self.ledger_store.start(), self.bus.start(), self.config.start())
        await self.producer.start(self.shape.produces)

    async def _disconnect(self) -> None:
        await self.producer.stop()
        await self.config.stop()
        await asyncio.gather(self.ledger_store.stop(), self.bus.stop())

    def _background(self) -> list[Background]:
        async def watchdog() -> None:
            await watch(self.inboxes, self.shape.stuck_after_s, self.metrics)

        async def report() -> None:
            await report_config(
                self.config, self.ledger_store, self.settings.instance_id, self.shape.role
            )

        return [watchdog, report, *self.background]
