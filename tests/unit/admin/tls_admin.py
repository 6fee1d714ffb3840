"""The admin API behind a real port with mutual TLS, and clients with whatever certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from ingress.admin.http.server import admin_server
from schemas.admin_roles import Role
from schemas.runtime.process.server_tls import ServerFiles, ServerTls
from tests.support.harness.certificates import Authority, Pair

WITHIN_S = 5.0


@dataclass(frozen=True)
class World:
    """An authority, a server's certificate, one of each role, and the file of roles."""

    authority: Authority
    server: Pair
    clients: dict[Role, Pair]
    roles: Path

    @property
    def files(self) -> ServerFiles:
        """What the port is told."""
        return ServerFiles(
            self.server.certificate, self.server.key, self.authority.pair.certificate
        )

    def tls(self, client: Pair | None) -> ssl.SSLContext:
        """How a client with that certificate speaks."""
        context = ssl.create_default_context(cafile=self.authority.pair.certificate)
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context


def make_world(folder: Path) -> World:
    """All of it, in a folder."""
    authority = Authority(folder / "ours", "ours")
    clients = {role: authority.vouch(role.value, f"URI:spiffe://test/{role}") for role in Role}
    roles = folder / "roles"
    roles.write_text("".join(f"{role} uri:spiffe://test/{role}\n" for role in Role))
    return World(authority, authority.vouch("server"), clients, roles)


@asynccontextmanager
async def serving(app: ASGIApp, tls: ServerTls) -> AsyncIterator[int]:
    """The port of a running server."""
    running = admin_server(app, "127.0.0.1", 0, tls)
    task = asyncio.create_task(running.serve())
    while not (running.started and running.servers):  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        await task


async def ask(
    port: int,
    tls: ssl.SSLContext | None,
    method: str,
    path: str,
    body: bytes = b"",
    more: str = "",
) -> bytes:
    """The whole answer; nothing when the other side breaks off before it said anything."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    async with asyncio.timeout(WITHIN_S):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        except (ssl.SSLError, ConnectionError):
            return b""
        try:
            writer.write(head.encode() + body)
            return await reader.read()
        except (ssl.SSLError, ConnectionError):
            return b""
        finally:
            writer.transport.abort()


async def shown_until_s(port: int, tls: ssl.SSLContext) -> float:
    """When the certificate ends that the port shows, Unix seconds."""
    async with asyncio.timeout(WITHIN_S):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    shown = writer.get_extra_info("peercert")
    writer.transport.abort()
    return float(ssl.cert_time_to_seconds(shown["notAfter"]))
