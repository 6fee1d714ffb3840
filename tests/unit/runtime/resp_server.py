"""A tiny Redis inside the test's event loop: records commands, answers as the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hiredis

Answer = Callable[[list[bytes]], bytes]
"""From a command to reply bytes; no bytes: the server stays silent."""


GARBAGE = (
    b"what?\r\n",
    b":99999999999999999999\r\n",
    b"$-5\r\n",
    b"*-7\r\n",
    b"%1\r\n*1\r\n+a\r\n+b\r\n",
    b">2\r\n+message\r\n+b\r\n",
    b"+OK\r\n+nobody asked\r\n",
)
"""What is no reply, or none that anybody asked for."""


def echo(command: list[bytes]) -> bytes:
    """The last argument as a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1])


@dataclass
class RespServer:
    """One listening socket; ``port`` stays the same across ``go_away`` and ``come_back``."""

    answer: Answer = echo
    port: int = 0
    tls: ssl.SSLContext | None = None
    commands: list[list[bytes]] = field(default_factory=list)
    reads: int = 0
    """How often bytes arrived."""
    _server: asyncio.Server | None = None
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.port}/0"

    async def come_back(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def go_away(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection; new ones are welcome."""
        for connection in self._connections:
            connection.transport.abort()

    def push(self, sent: bytes) -> None:
        """Send bytes nobody asked for, on every connection."""
        for connection in self._connections:
            connection.write(sent)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        self._connections.add(writer)
        try:
            while received := await reader.read(65_536):
                self.reads += 1
                parser.feed(received)
                while (command := parser.gets()) is not False:
                    self.commands.append(command)
                    writer.write(self.answer(command))
        except ConnectionError:
            return
        finally:
            self._connections.discard(writer)
            writer.close()


@asynccontextmanager
async def resp_server(
    answer: Answer = echo, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RespServer]:
    """A server that listens until the block is left."""
    server = RespServer(answer, tls=tls)
    await server.come_back()
    try:
        yield server
    finally:
        await server.go_away()
        await asyncio.sleep(0)
