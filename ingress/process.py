"""An ingress process runs its parts: connects them, serves, tells its health, and takes them down.

The port opens at once and readiness tells what is missing, so a start without Kafka is visible and
not a crash loop. Work in the background starts again after a defect. At SIGTERM the port is left in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ingress.auth.outside import Outside
from ingress.batches.runner import BatchRunner
from ingress.endpoints.status import StatusRoutes
from ingress.gatekeeper.gatekeeper import UNPRODUCED_S
from ingress.gatekeeper.refusal_audit import RefusalAudit
from ingress.health.conditions import shards_told
from ingress.health.document import Health
from ingress.health.exposed import expose_bounds, expose_watched
from ingress.health.watch import HealthWatch
from ingress.http.connections import Connections, connections_max
from ingress.http.front_server import FrontServer, front_server
from ingress.http.middleware import Shortcut
from ingress.leaving import Leaving
from ingress.replies.mailbox import PendingRequests
from ingress.replies.upkeep import Upkeep
from ingress.requests.silence import Silence
from ingress.routes import PublicParts, create_public_app
from ingress.settings import IngressSettings
from schemas.errors import ErrorCode
from schemas.ledger.shards import Shards
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.time_source import LedgerTime
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.collector import calm_collector
from schemas.runtime.process.connect import connect, read_config
from schemas.runtime.process.run import told_to_end
from schemas.runtime.process.self_report import SelfReport
from schemas.runtime.process.shown import expose_components, expose_config
from schemas.runtime.process.tasks import keep_running
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.traces import Tracing
from schemas.runtime.process.tracing import Tracer
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import Store
from schemas.runtime.valkey.subscription import Subscription
from schemas.topics import AUDIT, BACKGROUND, OUTCOMES, REQUESTS

if TYPE_CHECKING:
    from ingress.grpc.server import GrpcServer

_TIME_LOOK_S: Final = 0.05


@dataclass(slots=True)
class Ingress:
    """The parts of one ingress process."""

    settings: IngressSettings
    config: ConfigFeed
    producer: Producer
    ledger_store: Store
    bus: Bus
    subscription: Subscription
    pending: PendingRequests
    public: PublicParts
    refusals: RefusalAudit
    watch: HealthWatch
    metrics: Metrics
    clock: Clock
    ledger_time: LedgerTime
    outside: Outside
    tracing: Tracing | None = None
    """Where requests are traced."""
    batches: BatchRunner | None = None
    """Where this process runs batches."""
    connected: set[str] = field(default_factory=set)
    server: FrontServer | None = None
    """Of the public port, once it runs."""
    grpc: GrpcServer | None = None
    """Of the gRPC port, where there is one."""

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
            **self.outside.components(),
        }

    @property
    def tracer(self) -> Tracer | None:
        """Who records spans; ``None`` where nothing is traced."""
        return None if self.tracing is None else self.tracing.tracer

    def health(self) -> Health:
        """What the status endpoints tell; nothing is asked for it."""
        return Health(
            components=self.components(),
            bounds=self._bounds(),
            closing=self.public.gatekeeper.closing(),
            fleet=self.watch.fleet,
            now_s=self.clock.monotonic_s(),
            is_leaving=self.public.gatekeeper.is_leaving,
            clock=self.clock.facts,
        )

    def _bounds(self) -> dict[str, str]:
        """Bounds at which some requests are refused now."""
        bounds = self.public.gatekeeper.bounds_reached()
        bounds |= shards_told(self.watch.conditions.closed)
        if self.server is not None and self.server.register.is_full:
            bounds["connections_max"] = f"{len(self.server.register)} connections"
        if self.config.alarm is not None:
            bounds["config"] = self.config.alarm
        return bounds

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, or until the doors cannot be opened. 0 after a signal."""
        self.server = server = self._server()
        end = told_to_end()
        if self.settings.grpc_port:
            self.grpc = self._grpc_server()
            await self.grpc.start()
        connecting = asyncio.create_task(self._connect_all())
        background = [asyncio.create_task(work) for work in self._background()]
        serving = asyncio.create_task(server.serve())
        told = asyncio.create_task(end.wait())
        watched: list[asyncio.Future[Any]] = [serving, connecting, told]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            keeper, times = self.public.gatekeeper, self.settings
            leaving = Leaving(keeper, self.pending, server, times.drain_s, times.notice_s).run()
            await asyncio.gather(leaving, self._leave_grpc(times.drain_s, times.notice_s))
        server.should_exit = True
        await serving
        await self._leave_grpc(0)
        for task in (connecting, told, *background):
            task.cancel()
        await self._disconnect()
        if connecting.done() and not connecting.cancelled():
            connecting.result()
        return 0

    def _background(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs beside the requests; a defect in one of them is a pause of that one."""
        upkeep = Upkeep(self.pending, self.bus)
        forever = {
            "sweep": upkeep.sweep_forever,
            "catch up": upkeep.catch_up_forever,
            "silence": Silence(self.pending, self.public.ledger, self.public.lookup).run,
            "report": self._report,
            "refusal audit": self.refusals.run,
            "health watch": self.watch.run,
            "ledger time": self.ledger_time.run,
            **self.outside.background,
        }
        if self.batches is not None:
            forever["batches"] = self.batches.run
        if self.tracing is not None:
            forever["traces"] = self.tracing.exporter.run
        if self.grpc is not None:
            forever["grpc health"] = self.grpc.tell_health
        for name, work in forever.items():
            yield keep_running(name, work, self.metrics)

    def _server(self) -> FrontServer:
        def count(status: int, code: ErrorCode) -> None:
            self.metrics.count("tallygate_requests_total", "door", str(status), code)

        register = Connections(connections_max(self.settings.connections_max), count)
        return front_server(
            self.public_app(),
            self.settings.host,
            self.settings.port,
            register,
            self.clock,
            self.settings.origins,
        )

    def _grpc_server(self) -> GrpcServer:
        # Who has no use for it pays nothing, not even for what would be loaded.
        from ingress.grpc.server import create_grpc_server  # noqa: PLC0415

        # What was loaded just now is as lasting as what was loaded before.
        calm_collector()
        settings = self.settings
        return create_grpc_server(
            self.public,
            self.metrics,
            f"{settings.host}:{settings.grpc_port}",
            settings.inflight_max,
            lambda: self.health().is_ready,
            self.tracer,
        )

    async def _leave_grpc(self, patience_s: float, notice_s: float = 0.0) -> None:
        """Serve for the notice, then let calls end that run; whoever has connections is told to connect elsewhere."""
        if self.grpc is not None:
            await asyncio.sleep(notice_s)
            await self.grpc.stop(patience_s)

    def public_app(self) -> Shortcut:
        """The application of the port."""
        expose_components(self.metrics, self.components)
        expose_config(self.metrics, self.config)
        expose_watched(self.metrics, self.watch)
        expose_bounds(self.metrics, lambda: {**self._bounds(), **self.health().closing})
        status = StatusRoutes(self.health, self.metrics, lambda: len(self.pending))
        return create_public_app(self.public, status, self.metrics, self.tracer)

    async def _connect_all(self) -> None:
        """Connect what requests need, then let them in."""
        await asyncio.gather(
            self._connect("bus", self.bus.start),
            self._connect("subscription", self.subscription.start),
            self._connect("kafka", self._start_producer),
            read_config(self.config),
            self._learn_time(),
        )
        self.public.gatekeeper.open()
        await asyncio.Event().wait()

    async def _report(self) -> None:
        """Report itself for ever; requests do not need the ledger here."""
        if "ledger" not in self.connected:
            await self._connect("ledger", self.ledger_store.start)
        await SelfReport(
            self.settings,
            "ingress",
            self.config,
            self.ledger_store,
            self.bus.store,
            self.clock,
            lambda: self.components() | self.public.gatekeeper.closing(),
        ).run()

    async def _start_producer(self) -> None:
        """Connect to the log, which also says how many shards the ledger has."""
        await self.producer.start((REQUESTS, BACKGROUND, AUDIT, OUTCOMES))
        await self.public.ledger.learn(Shards(self.producer.partitions(OUTCOMES)))

    async def _connect(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        await connect(name, start)
        self.connected.add(name)

    async def _learn_time(self) -> None:
        """Ids, deadlines and the ends of keys are in the ledger's time: without it nobody is served."""
        while self.clock.error_ms is None:  # noqa: ASYNC110  # measured beside this, a clock has no event
            await asyncio.sleep(_TIME_LOOK_S)

    async def _disconnect(self) -> None:
        await self.public.starter.cancellations.finish()
        await self.refusals.finish()
        await self.public.lookup.stop()
        await self.public.requests.stop()
        await self.producer.stop()
        if self.tracing is not None:
            await self.tracing.exporter.stop()
        await self.config.stop()
        await self.subscription.stop()
        await asyncio.gather(self.bus.stop(), self.ledger_store.stop(), self.outside.stop())
