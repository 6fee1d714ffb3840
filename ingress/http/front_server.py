"""A server of this process: uvicorn behind the front door."""

from __future__ import annotations

import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from ingress.http.connections import Connections
from ingress.http.front_door import front_door
from ingress.http.keep_alive import keep_alive
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.http_server import HttpServer, server_config

_SHUTDOWN_WITHIN_S: Final = 5
"""For answers on their way, after requests were given their time or given up."""


class FrontServer(HttpServer):
    """A server whose connections are looked at once a second."""

    def __init__(self, config: uvicorn.Config, register: Connections) -> None:
        super().__init__(config)
        self.register = register

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port."""
        await super().startup(sockets)
        for server in self.servers:
            keep_alive(server.sockets)

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

    def sweep(self, now_s: float) -> None:
        """Close the connections whose time is over."""
        self.register.sweep(now_s)


def front_server(
    app: ASGIApp,
    host: str,
    port: int,
    register: Connections,
    clock: Clock,
    origins: frozenset[bytes],
) -> FrontServer:
    """The server of one port, for as many connections as the register takes, and pages of these origins."""
    http = front_door(register, clock, origins)
    # Caches must know that answers differ, also those to whoever names no origin.
    headers = [("vary", "origin")] if origins else []
    config = server_config(app, host, port, http, _SHUTDOWN_WITHIN_S, headers=headers)
    return FrontServer(config, register)
