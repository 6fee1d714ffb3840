"""One multiplexed connection to a Redis or Valkey server.

Commands travel in batches and replies resolve futures in order. This replaces the client library on the
hot path only: at 32 concurrent calls it costs a fifth of redis-py's CPU per command (ARCHITECTURE.md has
the figures). Parsing is hiredis.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import hiredis

from schemas.failures import Defect, Transient
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

_LOG = EventLog(__name__)

_PENDING_MAX = 20_000
_PENDING_BYTES_MAX = 64 * 1024 * 1024
"""Commands whose replies are awaited, by count and in bytes: what a store that hangs can cost."""
REPLY_BYTES_MAX = 64 * 1024 * 1024
"""A reply that is longer never ends, as far as this process is concerned."""
REPLY_DEADLINE_S = 5.0
CONNECT_DEADLINE_S = 3.0
_NOT_YET = object()
_BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0

Argument = str | bytes | int
Send = Callable[..., asyncio.Future[Any]]
OnConnect = Callable[[Send], Awaitable[None]]


class StoreUnavailable(Transient):
    """No answer: the command may or may not have been carried out. Transient."""


class StoreError(Defect):
    """The server answered with an error; the first word is its code."""


@dataclass(slots=True)
class _Sent:
    """What went out since the process began."""

    commands: int = 0
    flushes: int = 0


class BrokenProtocol(Transient):
    """What came is no reply, or belongs to no command: of this connection nothing can be believed."""


class ReplyReader:
    """Makes replies of bytes, and is not surprised by anything that comes.

    A reply is whatever type the server chose; a refused command is a ``StoreError`` among them.
    """

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=StoreError, notEnoughData=_NOT_YET)
        self._unread_bytes = 0

    def take(self, received: bytes) -> list[Any]:
        """The replies that are complete now. Raises ``BrokenProtocol``."""
        replies: list[Any] = []
        self._unread_bytes += len(received)
        try:
            self._reader.feed(received)
            while (reply := self._reader.gets()) is not _NOT_YET:
                replies.append(reply)
        except (hiredis.HiredisError, TypeError, ValueError, MemoryError) as error:
            raise BrokenProtocol(repr(error)) from error
        if replies:
            self._unread_bytes = 0
        elif self._unread_bytes > REPLY_BYTES_MAX:
            raise BrokenProtocol(f"a reply of more than {REPLY_BYTES_MAX} bytes")
        return replies


@dataclass(slots=True)
class _Pending:
    sent_at_s: float
    size_bytes: int
    answer: asyncio.Future[Any]


class _Pipe(asyncio.Protocol):
    """The wire: one batch of commands under way; what is issued meanwhile is the next batch.

    Fewer, larger writes spare both ends a wake-up each, and the server an fsync of its log.
    """

    def __init__(self, on_lost: Callable[[_Pipe], None], sent: _Sent) -> None:
        self.pending: deque[_Pending] = deque()
        self.pending_bytes = 0
        self.transport: asyncio.Transport | None = None
        self._sent = sent
        self._unsent: list[bytes] = []
        self._under_way = 0
        self._loop = asyncio.get_running_loop()
        self._replies = ReplyReader()
        self._on_lost = on_lost

    @property
    def is_full(self) -> bool:
        """Whether no further command may wait for its reply."""
        return len(self.pending) >= _PENDING_MAX or self.pending_bytes >= _PENDING_BYTES_MAX

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Queue the command for the next batch."""
        answer = self._loop.create_future()
        self.pending.append(_Pending(self._loop.time(), len(packed), answer))
        self.pending_bytes += len(packed)
        self._unsent.append(packed)
        if len(self._unsent) == 1 and not self._under_way:
            self._loop.call_soon(self._flush)
        return answer

    def _flush(self) -> None:
        if self._under_way or not self._unsent or self.transport is None:
            return
        self._under_way = len(self._unsent)
        self._sent.commands += self._under_way
        self._sent.flushes += 1
        self.transport.write(b"".join(self._unsent))
        self._unsent = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._replies.take(data):
                self._resolve(reply)
        except BrokenProtocol as error:
            _LOG.event(LogEvent.STORE_BROKE_PROTOCOL, error=error)
            if self.transport is not None:
                self.transport.abort()
            return
        if not self._under_way and self._unsent:
            # After the callers that were just answered, so that their next commands join.
            self._loop.call_soon(self._flush)

    def _resolve(self, reply: Any) -> None:
        if not self._under_way or isinstance(reply, hiredis.PushNotification):
            raise BrokenProtocol(f"a reply that nobody asked for: {reply!r:.100}")
        self._under_way -= 1
        pending = self.pending.popleft()
        self.pending_bytes -= pending.size_bytes
        if pending.answer.done():
            return
        if isinstance(reply, StoreError):
            pending.answer.set_exception(reply)
        else:
            pending.answer.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self.pending:
            answer = self.pending.popleft().answer
            if not answer.done():
                answer.set_exception(StoreUnavailable(f"connection lost: {exc!r}"))
        self._on_lost(self)


class StoreConnection:
    """``await call("GET", key)``. Reconnects by itself; while away, calls fail at once.

    ``on_connect`` runs on every new connection before anything else may use it, and is given what
    sends a command on it.
    """

    def __init__(self, url: str, on_connect: OnConnect | None = None) -> None:
        self._url = urlsplit(url)
        self._on_connect = on_connect
        self._pipe: _Pipe | None = None
        self._ready = False
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._sent = _Sent()
        self.trouble = "not connected"
        """Why there is no connection, while there is none: the server's own words when it refused us."""
        self.connections = 0
        """How many were made: whoever sees another number talks to a server that may have lost its data."""

    def expose(self, metrics: Metrics, kind: str) -> None:
        """Export how many commands went out, and in how many writes."""
        metrics.total("tallygate_store_commands_total", lambda: self._sent.commands, kind)
        metrics.total("tallygate_store_flushes_total", lambda: self._sent.flushes, kind)

    async def start(self) -> None:
        """Connect, waiting at most a few seconds, and keep connected from now on.

        Raises ``StoreUnavailable`` when the first connection fails.
        """
        await self._connect()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Disconnect for good."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._pipe is not None and self._pipe.transport is not None:
            self._pipe.transport.close()

    @property
    def connected(self) -> bool:
        """Whether calls go out now."""
        return self._ready

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send the command; the future holds its reply.

        Fails with ``StoreUnavailable`` (no answer, or not connected) or ``StoreError`` (refused).
        """
        if not self._ready:
            return _failed("not connected")
        return self._send(*command)

    def _send(self, *command: Argument) -> asyncio.Future[Any]:
        pipe = self._pipe
        if pipe is None or pipe.transport is None:
            return _failed("not connected")
        if pipe.is_full:
            return _failed("too much is under way")
        return pipe.send(hiredis.pack_command(command))  # type: ignore[arg-type]

    async def _connect(self) -> None:
        self._lost.clear()
        pipe = self._pipe = _Pipe(self._on_lost, self._sent)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await loop.create_connection(
                    lambda: pipe, self._url.hostname or "", self._url.port or 6379
                )
                await self._introduce()
        except (OSError, TimeoutError, StoreError) as error:
            if pipe.transport is not None:
                pipe.transport.abort()
            self.trouble = str(error) if isinstance(error, StoreError) else "not connected"
            raise StoreUnavailable(f"{self._url.hostname}:{self._url.port}: {error!r}") from error
        self._ready, self.trouble = True, "not connected"
        self.connections += 1

    async def _introduce(self) -> None:
        if self._url.password:
            user = unquote(self._url.username or "default")
            await self._send("AUTH", user, unquote(self._url.password))
        database = self._url.path.strip("/") or "0"
        if database != "0":
            await self._send("SELECT", database)
        if self._on_connect is not None:
            await self._on_connect(self._send)

    def _on_lost(self, pipe: _Pipe) -> None:
        if pipe is self._pipe:
            self._ready = False
            self._lost.set()

    async def _keep(self) -> None:
        """Reconnect after a loss, and cut a connection whose server stopped answering."""
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                await asyncio.wait_for(self._lost.wait(), timeout=1.0)
            except TimeoutError:
                self._cut_if_hanging()
                continue
            try:
                await self._connect()
                backoff_s = _BACKOFF_FIRST_S
            except StoreUnavailable:
                self._lost.set()
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _cut_if_hanging(self) -> None:
        pipe = self._pipe
        now_s = asyncio.get_running_loop().time()
        if pipe and pipe.pending and now_s - pipe.pending[0].sent_at_s > REPLY_DEADLINE_S:
            _LOG.event(
                LogEvent.STORE_SILENT, store=self._url.hostname or "", port=self._url.port or 0
            )
            if pipe.transport is not None:
                pipe.transport.abort()


def _failed(reason: str) -> asyncio.Future[Any]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answer.set_exception(StoreUnavailable(reason))
    return answer


def text_pairs(reply: object) -> dict[str, str]:
    """The fields of a hash as text; what is none, or is not UTF-8, is left out."""
    flat = reply if isinstance(reply, list) else []
    pairs: dict[str, str] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=False):
        if isinstance(name, bytes) and isinstance(value, bytes):
            with suppress(UnicodeDecodeError):
                pairs[name.decode()] = value.decode()
    return pairs
