"""The server of the control plane: uvicorn with bounds on how many connect, what they send, and how slowly.

A connection that does not ask for anything gives up its place after ten seconds; no answer takes longer than
half an hour.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ingress.admin.http.peer import PEER, peer_of_transport
from schemas.runtime.process.http_server import HttpServer, server_config
from schemas.runtime.process.server_tls import HANDSHAKE_WITHIN_S, ServerTls

__all__ = ["CONNECTIONS_MAX", "admin_server"]

CONNECTIONS_MAX: Final = 64
_HEAD_BYTES_MAX: Final = 16 * 1024
_ASKED_WITHIN_S: Final = 10.0
"""From the connection, or the last answer on it, to the end of a head."""
_ANSWERED_WITHIN_S: Final = 1_800.0
"""From there to the last byte that the client takes; the longest verification may take twenty minutes."""
_SHUTDOWN_WITHIN_S: Final = 10
"""What still runs then is cut off, such as a search of the log; a write of the configuration ends before."""


class _Connection(H11Protocol):
    """One connection; ``since_s`` is when it was made, or the last answer on it was out."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.since_s = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection in, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
        # Uvicorn tells an application nothing of certificates; each request's scope has a copy of this.
        self.app_state = {**self.app_state, PEER: peer_of_transport(transport)}

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.since_s = self.loop.time()
        super().on_response_complete()

    def end_if_late(self, now_s: float) -> None:
        """End the connection when its time is over."""
        is_asking = self.cycle is None or self.cycle.response_complete
        within_s = _ASKED_WITHIN_S if is_asking else _ANSWERED_WITHIN_S
        if now_s - self.since_s > within_s:
            self.transport.abort()


class _Server(HttpServer):
    def __init__(self, config: uvicorn.Config, tls: ServerTls | None) -> None:
        super().__init__(config)
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port; with TLS by ourselves, for uvicorn gives a handshake a minute."""
        if self._tls is None:
            await super().startup(sockets)
            return
        await super().startup(sockets=[])
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            self._connection,
            sock=self.config.bind_socket(),
            ssl=self._tls.context,
            ssl_handshake_timeout=HANDSHAKE_WITHIN_S,
            backlog=self.config.backlog,
        )
        self.servers.append(server)

    def _connection(self) -> _Connection:
        return _Connection(self.config, self.server_state, self.lifespan.state)

    def sweep(self, now_s: float) -> None:
        """End the connections whose time is over, and see whether the certificate was replaced."""
        if self._tls is not None:
            self._tls.refresh()
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Connection):
                connection.end_if_late(now_s)


def admin_server(app: ASGIApp, host: str, port: int, tls: ServerTls | None = None) -> HttpServer:
    """The server of the application; it serves once ``serve`` runs, and with ``tls`` nobody without a certificate."""
    config = server_config(
        app,
        host,
        port,
        _Connection,
        _SHUTDOWN_WITHIN_S,
        h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
    )
    return _Server(config, tls)
