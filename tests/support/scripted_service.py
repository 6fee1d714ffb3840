"""A service that answers as a test says, byte by byte: identity providers and user-org services gone odd."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ScriptedService:
    """A real server on the loopback address. ``answer`` gets path and headers, and gives the bytes to send; ``None``
    sends nothing and holds the connection."""

    answer: Callable[[str, dict[str, str]], bytes | None]
    port: int = 0
    scheme: str = "http"
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    delay_s: float = 0.0
    under_way: int = 0
    under_way_max: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        """What was asked, in order."""
        return [path for path, _ in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of one connection."""
        self._open.add(writer)
        try:
            while True:
                path, headers = await _question(reader)
                self.asked.append((path, headers))
                self.under_way += 1
                self.under_way_max = max(self.under_way_max, self.under_way)
                try:
                    await asyncio.sleep(self.delay_s)
                    answer = self.answer(path, headers)
                    if answer is None:
                        await reader.read()
                        return
                    writer.write(answer)
                    await writer.drain()
                finally:
                    self.under_way -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # The test ends its service whatever is under way.
        finally:
            self._open.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._open:
            writer.transport.abort()


async def _question(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = (line.partition(":") for line in head[1:] if line)
    return head[0].split()[1], {name.lower(): value.strip() for name, _, value in fields}


def answered(body: bytes | dict[str, Any] = b"", status: int = 200, **headers: str) -> bytes:
    """A whole answer in HTTP/1.1."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-length": str(len(content)), "content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@asynccontextmanager
async def scripted_service(
    answer: Callable[[str, dict[str, str]], bytes | None], tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedService]:
    """Run one on a free port."""
    service = ScriptedService(answer, scheme="http" if tls is None else "https")
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, ssl=tls)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()
        service.hang_up()
        await asyncio.sleep(0)
