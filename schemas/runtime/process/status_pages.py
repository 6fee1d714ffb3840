"""The status pages of a worker: whether it lives, whether it can serve, and its metrics."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from schemas.readiness import METRICS, readiness
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics

Check = Callable[[], dict[str, str]]
"""Component name to ``ok`` or what is wrong with it; what works all the same begins with ``DEGRADED`` or
``PAUSED``."""


class StatusPages:
    """``/livez`` (the loop turns), ``/readyz`` (200 while the process can serve, ``degraded`` when something
    is wrong all the same) and ``/metrics``."""

    def __init__(self, host: str, port: int, check: Check, metrics: Metrics, clock: Clock) -> None:
        self._address = host, port
        self._clock = clock
        self._check = check
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; ``OSError`` when the port is taken."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get(METRICS, self._metrics_page)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        components = self._check()
        status = readiness(components)
        return web.json_response(
            {"status": status, "components": components, "clock": self._clock.facts},
            status=503 if status == "unavailable" else 200,
        )

    async def _metrics_page(self, request: web.Request) -> web.Response:
        body, headers = self._metrics.page_for(request.headers.get("accept", ""))
        return web.Response(body=body, headers=headers)
