"""Keeps the connections to backends: one on which a backend spoke unasked is never used again, and none is used that
the backend is about to close.

A connection has one call at a time. It is kept when its answer came whole, nothing followed it, the call was sent whole
and both heads allow it; anything else ends it.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from dispatcher.upstream.answer import Answer, AnswerBroken
from dispatcher.upstream.connecting import Connecting, Unreachable
from dispatcher.upstream.peer_bytes import PeerBytes, peer_bytes
from dispatcher.upstream.target import Origin

__all__ = ["IDLE_S_MAX", "Connection", "Connections", "idle_s"]

IDLE_S_MAX: Final = 4.0
"""Servers close what was idle for five seconds (uvicorn, Node, gunicorn: llm-d/llm-d-benchmark#1675)."""
_IDLE_MARGIN_S: Final = 1.0
"""A call is on its way for so long before the server has it."""
_KEPT: Final = re.compile(r"(?:^|[,;\s])timeout\s*=\s*(\d{1,6})", re.ASCII)
_KEPT_CHARS_MAX: Final = 256
_READ_BYTES: Final = 64 * 1024
"""A larger body may have been refused unread: it stands in a kernel's buffer then, before the next call."""
_OK: Final = 200
_UNTOLD: Final = PeerBytes(is_open=True, acknowledged=-1, received=-1)
"""Of a system that tells nothing: nothing is proved by it."""


def idle_s(keep_alive: str | None) -> float:
    """How long a connection may be idle, given what its backend says in ``Keep-Alive``."""
    said = _KEPT.search(keep_alive[:_KEPT_CHARS_MAX]) if keep_alive else None
    return IDLE_S_MAX if said is None else min(IDLE_S_MAX, max(0.0, int(said[1]) - _IDLE_MARGIN_S))


class Connection(asyncio.Protocol):
    """One connection to a backend, and the answer that arrives on it now."""

    def __init__(self, origin: Origin, on_lost: Callable[[Connection], None]) -> None:
        self.origin = origin
        self.idle_until_s = 0.0
        """Loop time until which another call may begin on it."""
        self.answer: Answer | None = None
        self._body_bytes = 0
        self._on_lost = on_lost
        self._before: PeerBytes | None = None
        """Of a kept connection, when its call began."""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, and through the handshake where there is one."""
        self._transport = cast("asyncio.Transport", transport)
        own = transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def is_usable(self, now_s: float) -> bool:
        """Whether another call may begin: the backend has not hung up, as far as the kernel knows."""
        if self.is_closing or now_s >= self.idle_until_s:
            return False
        self._before = peer_bytes(self._transport) or _UNTOLD
        return self._before.is_open

    @property
    def is_closing(self) -> bool:
        """Whether nothing can be sent on it any more."""
        return self._transport is None or self._transport.is_closing()

    async def ask(self, head: bytes, body: bytes) -> Answer:
        """Send a call; the head of its answer has come. Raises ``AnswerBroken``.

        What a slow backend has not read is held while the call lasts.
        """
        assert self._transport is not None
        self._body_bytes = len(body)
        self.answer = answer = Answer(self._transport)
        self._transport.writelines((head, body))
        await answer.head()
        return answer

    def over(self, now_s: float) -> bool:
        """The call is over: whether the connection may be kept; ended if not."""
        answer, self.answer, self._before = self.answer, None, None
        if answer is not None and answer.is_reusable and self._is_read(answer):
            self.idle_until_s = answer.ended_s + idle_s(answer.header(b"keep-alive"))
            if now_s < self.idle_until_s:
                return True
        self.abort()
        return False

    def _is_read(self, answer: Answer) -> bool:
        """Whether the backend has read the whole call; it may answer before."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
            and (answer.status == _OK or self._body_bytes <= _READ_BYTES)
        )

    def abort(self) -> None:
        """End it now, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Part of the answer; what nobody asked for, or cannot be read, ends the connection."""
        answer = self.answer
        if answer is not None:
            answer.feed(data)
        if answer is None or answer.error is not None or answer.has_surplus:
            self.abort()

    def eof_received(self) -> None:
        """The backend will say no more, so nothing more can be of use to it."""
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over; what the kernel knows of it is forgotten after this."""
        self._on_lost(self)
        if self.answer is not None:
            before = None if self.answer.received_bytes else self._before
            now = None if before is None else peer_bytes(self._transport)
            self.answer.ended(
                AnswerBroken(
                    "disconnected" if exc is None else type(exc).__name__,
                    is_cut=before is not None,
                    is_unread=before is not None and now is not None and now.shows_unread(before),
                )
            )
        self._transport = None


class Connections:
    """The pool of all backends; as many connections as there are calls."""

    def __init__(self, connecting: Connecting) -> None:
        self._connecting = connecting
        self._idle: dict[Origin, dict[Connection, None]] = {}
        """By origin. The one that was idle longest is used first: what its backend says unasked has had time to come."""
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """How many have a call."""
        return len(self._open) - sum(map(len, self._idle.values()))

    async def take(self, origin: Origin, *, fresh: bool) -> Connection:
        """A connection for one call, which gives it back; a kept one if it may. Raises ``Unreachable``."""
        idle = None if fresh else self._idle.get(origin)
        now_s = asyncio.get_running_loop().time()
        while idle:
            kept = next(iter(idle))
            del idle[kept]
            if kept.is_usable(now_s):
                return kept
            kept.abort()
        made = await self._connecting.connect(origin, lambda: Connection(origin, self._forget))
        if made.is_closing:
            raise Unreachable("closed at once")
        self._open.add(made)
        return made

    def give_back(self, connection: Connection) -> None:
        """Its call is over."""
        loop = asyncio.get_running_loop()
        if connection in self._open and connection.over(loop.time()):
            self._idle.setdefault(connection.origin, {})[connection] = None
            if self._sweeping is None:
                self._sweeping = loop.call_later(IDLE_S_MAX, self._sweep)

    def close(self) -> None:
        """End all of them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in tuple(self._open):
            connection.abort()

    def _sweep(self) -> None:
        """End what was idle for too long; backends that are called no more keep nothing open."""
        loop = asyncio.get_running_loop()
        now_s, self._sweeping = loop.time(), None
        for origin, idle in tuple(self._idle.items()):
            for connection in [each for each in idle if now_s >= each.idle_until_s]:
                del idle[connection]
                connection.abort()
            if not idle:
                del self._idle[origin]
        if self._idle:
            self._sweeping = loop.call_later(IDLE_S_MAX, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.get(connection.origin, {}).pop(connection, None)
