"""The status pages of the control plane: what it needs, what of that is missing, and its metrics.

They look at what is at hand, ask nobody, and tell nothing that is worth hiding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schemas.readiness import HEALTHZ, METRICS, READYZ, STARTUPZ, missing, readiness
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics


class AdminHealth(TypedDict):
    """What the control plane needs, and what of that is missing."""

    status: str
    components: dict[str, str]
    reasons: list[str]
    clock: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class StatusPages:
    """The handlers of the pages."""

    components: Callable[[], Mapping[str, str]]
    metrics: Metrics
    clock: Clock

    def routes(self) -> list[Route]:
        """The paths. Nothing here depends on other processes, so it has started when it is ready."""
        return [
            Route(HEALTHZ, self.healthz, methods=["GET"]),
            Route(READYZ, self.readyz, methods=["GET"]),
            Route(STARTUPZ, self.readyz, methods=["GET"]),
            Route(METRICS, self.metrics_page, methods=["GET"]),
        ]

    async def healthz(self, _: Request) -> Response:
        """200 as long as the process answers."""
        return self._document(200)

    async def readyz(self, _: Request) -> Response:
        """503 while something is missing without which nothing can be written."""
        return self._document(503 if missing(self.components()) else 200)

    async def metrics_page(self, request: Request) -> Response:
        """The exposition, as OpenMetrics where that is asked for."""
        body, headers = self.metrics.page_for(request.headers.get("accept", ""))
        return Response(body, headers=headers)

    def _document(self, status: int) -> Response:
        components = self.components()
        document: AdminHealth = {
            "status": readiness(components),
            "components": dict(components),
            "reasons": missing(components),
            "clock": dict(self.clock.facts),
        }
        return JSONResponse(document, status)
