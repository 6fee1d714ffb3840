"""What a hostile answer is made of: the bytes on the wire, when they are sent, and what a good gateway
makes of them. Knows nothing of the gateway's code.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Family = Literal["bytes", "dialect", "framing", "headers", "size", "time"]
Booked = Literal["exact", "estimated", "nothing"]
PROMPT_TOKENS, COMPLETION_TOKENS = 11, 7
USAGE = b'{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}'
SILENCE_S = 1.0
"""What the shapes take for the backend's ``timeout_s``."""
ERROR_BODY_S = 0.5
"""How long a gateway may wait for the body of a refusal."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Wire:
    """The server's end of one connection that has asked something."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int = 1
    """How often this shape was asked before, counted from 1."""
    asked: dict[str, Any] = field(default_factory=dict)
    """The body of the request."""
    keeps_open: bool = False
    last_byte_at_s: float = 0.0
    cpu_at_last_byte_s: float = 0.0
    """Of this process: what a test that runs in it measures on a busy machine."""
    sent_bytes: int = 0

    async def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """Send the bytes as they are, with a pause before each but the first."""
        for index, piece in enumerate(pieces):
            if index and pause_s:
                await asyncio.sleep(pause_s)
            self.writer.write(piece)
            await self.writer.drain()
            self.sent_bytes += len(piece)
            self.last_byte_at_s = asyncio.get_running_loop().time()
            self.cpu_at_last_byte_s = time.process_time()

    async def flood(self, piece: bytes, total_bytes: int) -> None:
        """Send the piece again and again."""
        for _ in range(total_bytes // len(piece)):
            await self.send(piece)

    async def hang(self) -> None:
        """Send nothing more; return when the other end is gone."""
        while await self.reader.read(65_536):
            pass

    async def drip(self, piece: bytes, every_s: float = 0.05) -> None:
        """Send the piece for ever."""
        while True:
            await self.send(piece)
            await asyncio.sleep(every_s)

    def reset(self) -> None:
        """Close with a RST."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.writer.transport.abort()


@dataclass(frozen=True)
class Shape:
    """One way to misbehave. The model ``fake-<name>`` asks for it."""

    name: str
    family: Family
    answer: Callable[[Wire], Awaitable[None]] = field(repr=False)
    statuses: tuple[int, ...]
    """What the client may get. 200 of a stream stands for a whole one; one that breaks off is 0."""
    booked: Booked
    """``exact``: 11+7 as the backend says; ``estimated``: by the gateway; ``nothing``: no work was done."""
    stream: bool = False
    limit_s: float = 0.0
    """How long the call lasts until its last byte, or the limit that it crosses; 0: at once."""
    slack_s: float = 0.1
    """How much later it may have ended; more where megabytes lie between sending and crossing a limit."""


def head(status: bytes = b"200 OK", *headers: bytes) -> bytes:
    """A head of an answer that ends with the connection."""
    lines = (b"HTTP/1.1 " + status, b"Connection: close", *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def sized(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    """A whole answer with its length."""
    length = b"Content-Length: %d" % len(body)
    return head(status, b"Content-Type: application/json", length, *headers) + body


def completion(
    *,
    content: bytes = b'"hello there"',
    ident: bytes = b'"c1"',
    usage: bytes = USAGE,
    more: bytes = b"",
) -> bytes:
    """A JSON answer, each field as raw JSON."""
    choice = b'{"index":0,"message":{"role":"assistant","content":' + content + b"}}"
    return b'{"id":%b,"choices":[%b],"usage":%b%b}' % (ident, choice, usage, more)


def event(
    content: bytes = b'"hello "',
    *,
    ident: bytes = b'"c1"',
    delta: bytes | None = None,
    more: bytes = b"",
) -> bytes:
    """An event of a stream, each field as raw JSON."""
    inner = b'{"content":' + content + b"}" if delta is None else delta
    return b'data: {"id":%b,"choices":[{"index":0,"delta":%b}]%b}\n\n' % (ident, inner, more)


LAST = b'data: {"id":"c1","choices":[],"usage":' + USAGE + b"}\n\n"
DONE = b"data: [DONE]\n\n"
STREAM = b"Content-Type: text/event-stream"
CHUNKED = b"Transfer-Encoding: chunked"


def chunk(piece: bytes, extension: bytes = b"") -> bytes:
    """One chunk of a chunked body."""
    return b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)


def says(*pieces: bytes, pause_s: float = 0.0) -> Callable[[Wire], Awaitable[None]]:
    """Send these bytes, then close."""

    async def answer(wire: Wire) -> None:
        await wire.send(*pieces, pause_s=pause_s)

    return answer


def says_and_hangs(*pieces: bytes) -> Callable[[Wire], Awaitable[None]]:
    """Send these bytes, then nothing, and do not close."""

    async def answer(wire: Wire) -> None:
        await wire.send(*pieces)
        await wire.hang()

    return answer


def says_and_resets(*pieces: bytes) -> Callable[[Wire], Awaitable[None]]:
    """Send these bytes, give them time to arrive, then reset."""

    async def answer(wire: Wire) -> None:
        await wire.send(*pieces)
        await asyncio.sleep(0.05)
        wire.reset()

    return answer


def floods(first: bytes, piece: bytes, total_bytes: int) -> Callable[[Wire], Awaitable[None]]:
    """Send the first bytes, then the piece up to a size, then close."""

    async def answer(wire: Wire) -> None:
        await wire.send(first)
        await wire.flood(piece, total_bytes)

    return answer


def drips(first: bytes, piece: bytes) -> Callable[[Wire], Awaitable[None]]:
    """Send the first bytes, then the piece every 50 ms, for ever."""

    async def answer(wire: Wire) -> None:
        await wire.send(first)
        await wire.drip(piece)

    return answer


def good_stream(*events: bytes) -> bytes:
    """A whole stream of these events, ended well."""
    return head(b"200 OK", STREAM) + b"".join(events) + LAST + DONE


def message_of(text: bytes) -> bytes:
    """An error body with these bytes as its message."""
    return b'{"error":{"message":"' + text + b'","type":"x"}}'


def dumps(value: object) -> bytes:
    """The value as JSON."""
    return json.dumps(value).encode()


def named(shapes: Iterable[Shape]) -> dict[str, Shape]:
    """By model name."""
    return {f"fake-{shape.name}": shape for shape in shapes}
