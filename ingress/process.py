"""An ingress process runs its parts: connects them, serves, tells its health, and takes them down.

The port opens at once and readiness tells what is missing, so a start without Kafka is visible and
not a crash loop. Work in the background starts again after a defect. At SIGTERM the port is left in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingress.auth.outside import Outside
from ingress.endpoints.status import StatusRoutes
from ingress.gatekeeper.refusal_audit import RefusalAudit
from ingress.health.conditions import shards_told
from ingress.health.document import Health
from ingress.health.exposed import expose_bounds, expose_watched
from ingress.http.connections import Connections, connections_max
from ingress.http.front_server import FrontServer, front_server
from ingress.http.middleware import Shortcut
from ingress.leaving import Leaving
from ingress.plumbing import Plumbing
from ingress.routes import PublicParts, create_public_app
from ingress.settings import IngressSettings
from schemas.errors import ErrorCode
from schemas.runtime.process.collector import calm_collector
from schemas.runtime.process.run import told_to_end
from schemas.runtime.process.shown import expose_components, expose_config
from schemas.runtime.process.tasks import keep_running

if TYPE_CHECKING:
    from ingress.grpc.server import GrpcServer


@dataclass(slots=True)
class Ingress:
    """The parts of one ingress process."""

    settings: IngressSettings
    plumbing: Plumbing
    public: PublicParts
    refusals: RefusalAudit
    outside: Outside
    server: FrontServer | None = None
    """Of the public port, once it runs."""
    grpc: GrpcServer | None = None
    """Of the gRPC port, where there is one."""

    def components(self) -> dict[str, str]:
        """Component to ``ok`` or what is wrong with it."""
        return {**self.plumbing.components(), **self.outside.components()}

    def health(self) -> Health:
        """What the status endpoints tell; nothing is asked for it."""
        return Health(
            components=self.components(),
            bounds=self._bounds(),
            closing=self.public.gatekeeper.closing(),
            fleet=self.plumbing.watch.fleet,
            now_s=self.plumbing.clock.monotonic_s(),
            is_leaving=self.public.gatekeeper.is_leaving,
            clock=self.plumbing.clock.facts,
        )

    def _bounds(self) -> dict[str, str]:
        """Bounds at which some requests are refused now."""
        bounds = self.public.gatekeeper.bounds_reached()
        bounds |= shards_told(self.plumbing.watch.conditions.closed)
        if self.server is not None and self.server.register.is_full:
            bounds["connections_max"] = f"{len(self.server.register)} connections"
        if (alarm := self.plumbing.config.alarm) is not None:
            bounds["config"] = alarm
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
            leaving = Leaving(
                keeper, self.plumbing.pending, server, times.drain_s, times.notice_s
            ).run()
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
        forever = {
            **self.plumbing.background(self._trouble),
            "refusal audit": self.refusals.run,
            **self.outside.background,
        }
        if self.grpc is not None:
            forever["grpc health"] = self.grpc.tell_health
        for name, work in forever.items():
            yield keep_running(name, work, self.plumbing.metrics)

    def _trouble(self) -> dict[str, str]:
        """What it reports of itself."""
        return self.components() | self.public.gatekeeper.closing()

    def _server(self) -> FrontServer:
        def count(status: int, code: ErrorCode) -> None:
            self.plumbing.metrics.count("tallygate_requests_total", "door", str(status), code)

        register = Connections(connections_max(self.settings.connections_max), count)
        return front_server(
            self.public_app(),
            self.settings.host,
            self.settings.port,
            register,
            self.plumbing.clock,
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
            self.plumbing.metrics,
            f"{settings.host}:{settings.grpc_port}",
            settings.inflight_max,
            lambda: self.health().is_ready,
            self.plumbing.tracer,
        )

    async def _leave_grpc(self, patience_s: float, notice_s: float = 0.0) -> None:
        """Serve for the notice, then let calls end that run; whoever has connections is told to connect elsewhere."""
        if self.grpc is not None:
            await asyncio.sleep(notice_s)
            await self.grpc.stop(patience_s)

    def public_app(self) -> Shortcut:
        """The application of the port."""
        plumbing = self.plumbing
        metrics = plumbing.metrics
        expose_components(metrics, self.components)
        expose_config(metrics, plumbing.config)
        expose_watched(metrics, plumbing.watch)
        expose_bounds(metrics, lambda: {**self._bounds(), **self.health().closing})
        status = StatusRoutes(self.health, metrics, lambda: len(plumbing.pending))
        return create_public_app(self.public, status, metrics, plumbing.tracer)

    async def _connect_all(self) -> None:
        """Connect what requests need, then let them in."""
        await self.plumbing.connect()
        self.public.gatekeeper.open()
        await asyncio.Event().wait()

    async def _disconnect(self) -> None:
        await self.public.starter.cancellations.finish()
        await self.refusals.finish()
        await self.public.requests.stop()
        await self.plumbing.disconnect()
        await self.outside.stop()
