"""Health, readiness, metrics: they look at what is at hand and wait for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ingress.health.document import NEEDED, Health
from schemas.runtime.process.telemetry import Metrics


class StartDocument(TypedDict):
    """Whether this process has everything that it needs itself."""

    status: str
    components: dict[str, str]


class StatusRoutes:
    """The status endpoints."""

    def __init__(
        self, health: Callable[[], Health], metrics: Metrics, inflight: Callable[[], int]
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._inflight = inflight

    async def healthz(self, _: Request) -> Response:
        """200 as long as the process answers."""
        return JSONResponse(self._health().document())

    async def readyz(self, _: Request) -> Response:
        """503 when no request could be served."""
        health = self._health()
        return JSONResponse(health.document(), status_code=200 if health.is_ready else 503)

    async def startupz(self, _: Request) -> Response:
        """503 until this process itself has everything it needs, whatever the others do."""
        components = self._health().components
        has_started = all(components[name] == "ok" for name in NEEDED)
        status = "ok" if has_started else "unavailable"
        body: StartDocument = {"status": status, "components": dict(components)}
        return JSONResponse(body, status_code=200 if has_started else 503)

    async def metrics(self, request: Request) -> Response:
        """The exposition, as OpenMetrics where that is asked for."""
        self._metrics.set("tallygate_inflight_requests", self._inflight())
        body, headers = self._metrics.page_for(request.headers.get("accept", ""))
        return Response(body, headers=headers)
