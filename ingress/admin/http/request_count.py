"""Counts what the control plane answered, by status and code."""

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
        operation = "status" if scope.get("path") in STATUS_PATHS else "admin"
        state = scope.setdefault("state", {})

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status, code = str(message["status"]), state.get("code", "")
                self._metrics.count("tallygate_requests_total", operation, status, code)
            await send(message)

        await self._app(scope, receive, counted)
