"""A front server with a small application, and raw sockets against it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from ingress.http.connections import Connections
from ingress.http.cross_origin import read_origins
from ingress.http.front_server import FrontServer, front_server
from schemas.runtime.process.clock import Clock

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\n"


@dataclass
class Echo:
    """Answers with the number of bytes it was sent; keeps what it saw."""

    seen: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    disconnects: int = 0
    reads: bool = True
    answer: bytes = b""
    pause_s: float = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        body = b""
        while self.reads:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        self.bodies.append(body)
        await asyncio.sleep(self.pause_s)
        answer = self.answer or b"%d" % len(body)
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@dataclass
class Served:
    server: FrontServer
    port: int
    refused: list[int]

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, raw: bytes, within_s: float = 5.0) -> bytes:
        """Everything that comes back until the server hangs up."""
        reader, writer = await self.open()
        try:
            writer.write(raw)
            async with asyncio.timeout(within_s):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def serving(app: Any, most: int = 64, origins: str = "") -> AsyncIterator[Served]:
    refused: list[int] = []
    register = Connections(most, lambda status, _: refused.append(status))
    server = front_server(app, "127.0.0.1", 0, register, Clock(), read_origins(origins))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(server, port, refused)
    finally:
        server.should_exit = True
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await task
