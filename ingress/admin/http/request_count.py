"""Counts what the control plane answered, by status."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.readiness import STATUS_PATHS
from schemas.runtime.process.telemetry import Metrics


class RequestCount:
    """Wraps the application, so that what its guard refuses and what fails is counted too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and note the status."""
        route = "status" if scope.get("path") in STATUS_PATHS else "admin"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.count("tallygate_requests_total", route, str(message["status"]))
            await send(message)

        await self._app(scope, receive, counted)
