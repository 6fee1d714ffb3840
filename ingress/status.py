"""Health, readiness, metrics. Liveness: the loop turns. Readiness names every component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from schemas.runtime.telemetry import PAGE_CONTENT_TYPE, Metrics

NEEDED: Final = frozenset({"kafka", "bus", "config"})
"""Components without which no request can be served."""

Components = Callable[[], dict[str, str]]


class StatusRoutes:
    """The status endpoints; they look at state that is at hand and wait for nothing."""

    def __init__(
        self, components: Components, metrics: Metrics, inflight: Callable[[], int]
    ) -> None:
        self._components = components
        self._metrics = metrics
        self._inflight = inflight

    async def healthz(self, _: Request) -> Response:
        """200 as long as the process answers."""
        components = self._components()
        is_whole = all(state == "ok" for state in components.values())
        status = "ok" if is_whole else "degraded"
        return JSONResponse({"status": status, "components": components})

    async def readyz(self, _: Request) -> Response:
        """503 unless every needed component is ok."""
        components = self._components()
        is_ready = all(components[name] == "ok" for name in NEEDED)
        is_whole = all(state == "ok" for state in components.values())
        status = "unavailable" if not is_ready else "ok" if is_whole else "degraded"
        body = {"status": status, "components": components}
        return JSONResponse(body, status_code=200 if is_ready else 503)

    async def metrics(self, _: Request) -> Response:
        """The exposition in Prometheus' text format."""
        self._metrics.set("tallygate_inflight_requests", self._inflight())
        return Response(self._metrics.page(), headers={"content-type": PAGE_CONTENT_TYPE})
