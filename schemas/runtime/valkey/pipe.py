"""The wire to one server: one batch of commands under way; what is issued meanwhile is the next batch.

Fewer, larger writes spare both ends a wake-up each, and the server an fsync of its log. Parsing is hiredis.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.replies import BrokenProtocol, ReplyReader
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_PENDING_MAX: Final = 20_000
_PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Commands whose replies are awaited, by count and in bytes: what a store that hangs can cost."""


@dataclass(slots=True)
class Sent:
    """What went out since the process began."""

    commands: int = 0
    flushes: int = 0


@dataclass(slots=True)
class _Pending:
    sent_at_s: float
    size_bytes: int
    answer: asyncio.Future[Any]


class Pipe(asyncio.Protocol):
    """Resolves each command's future with its reply, in order."""

    def __init__(self, on_lost: Callable[[Pipe], None], sent: Sent) -> None:
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
        """The transport is there."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Replies came, or what is none: then the connection ends."""
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
        """Whatever is under way ends as unavailable."""
        self.transport = None
        while self.pending:
            answer = self.pending.popleft().answer
            if not answer.done():
                answer.set_exception(StoreUnavailable(f"connection lost: {exc!r}"))
        self._on_lost(self)
