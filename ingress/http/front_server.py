"""A server of this process: uvicorn behind the front door."""

from __future__ import annotations

import asyncio
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from ingress.http.connections import Connections
from ingress.http.front_door import front_door
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.http_server import HttpServer

_SHUTDOWN_WITHIN_S: Final = 5
"""For answers on their way, after requests were given their time or given up."""
_TICKS_PER_SWEEP: Final = 10
"""Uvicorn ticks ten times a second."""


class FrontServer(HttpServer):
    """A server whose connections are looked at once a second."""

    def __init__(self, config: uvicorn.Config, register: Connections) -> None:
        super().__init__(config)
        self.register = register

    def stop_listening(self) -> None:
        """Accept nobody any more; whoever is connected stays."""
        for server in self.servers:
            server.close()

    def has_connections(self) -> bool:
        """Whether anybody is connected."""
        return bool(self.server_state.connections)

    def end_requests(self) -> None:
        """Cancel every request that is still being answered; the edge tells its client."""
        for task in self.server_state.tasks:
            task.cancel()

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections once a second, whatever else uvicorn does then."""
        if counter % _TICKS_PER_SWEEP == 0:
            self.register.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def front_server(
    app: ASGIApp, host: str, port: int, register: Connections, clock: Clock
) -> FrontServer:
    """The server of one port, for as many connections as the register takes."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=front_door(register, clock),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_WITHIN_S,
    )
    return FrontServer(config, register)
