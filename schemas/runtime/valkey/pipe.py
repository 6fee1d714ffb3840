"""The wire to one server: one batch of commands under way; what is issued meanwhile is the next batch.

Fewer, larger writes spare both ends a wake-up each, and the server an fsync of its log. Packing is hiredis.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
import msgspec

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.replies import BrokenProtocol, ReplyReader
from schemas.runtime.valkey.store import Argument, StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_PENDING_MAX: Final = 20_000
_PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Commands whose replies are awaited, by count and in bytes: what a store that hangs can cost."""
_ELSEWHERE: Final = ("MOVED ", "ASK ")
"""How a server of a cluster answers for a key that another one serves."""
_AWAY: Final = ("READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "TRYAGAIN")
"""How a server answers that carried nothing out, and may do so later, or another one."""
_DEMOTED: Final = "READONLY"
_ASKING: Final = hiredis.pack_command(("ASKING",))


@dataclass(slots=True)
class Sent:
    """What went out since the process began."""

    commands: int = 0
    flushes: int = 0


class Pending(msgspec.Struct, eq=False):
    """A command whose reply is awaited."""

    sent_at_s: float
    packed: bytes
    answer: asyncio.Future[Any]
    redirects: int = 0
    """How many servers sent it elsewhere."""


OnElsewhere = Callable[[Pending, str], None]
"""Takes a command over that another server serves, with the words of the one that said so."""


class Pipe(asyncio.Protocol):
    """Resolves each command's future with its reply, in order."""

    def __init__(self, on_lost: Callable[[Pipe], None], sent: Sent) -> None:
        self.pending: deque[Pending] = deque()
        self.pending_bytes = 0
        self.transport: asyncio.Transport | None = None
        self.on_elsewhere: OnElsewhere | None = None
        """Set where there may be other servers; else such an answer is an error like others."""
        self._sent = sent
        self._unsent: list[bytes] = []
        self._under_way = 0
        self._loop = asyncio.get_running_loop()
        self._replies = ReplyReader()
        self._on_lost = on_lost

    def send(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """Queue the command for the next batch."""
        if len(self.pending) >= _PENDING_MAX or self.pending_bytes >= _PENDING_BYTES_MAX:
            return failed("too much is under way")
        answer = self._loop.create_future()
        self.take(Pending(self._loop.time(), hiredis.pack_command(command), answer))  # type: ignore[arg-type]
        return answer

    def take(self, pending: Pending) -> None:
        """Queue what has its future already."""
        self.pending.append(pending)
        self.pending_bytes += len(pending.packed)
        self._unsent.append(pending.packed)
        if len(self._unsent) == 1 and not self._under_way:
            self._loop.call_soon(self._flush)

    def take_over(self, pending: Pending, *, asking: bool) -> None:
        """Queue what another server sent here; ``asking`` when the key is still on its way."""
        if asking:
            answer = self._loop.create_future()
            self.take(Pending(self._loop.time(), _ASKING, answer))
            answer.cancel()
        pending.sent_at_s = self._loop.time()
        self.take(pending)

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
            self.cut()
            return
        if not self._under_way and self._unsent:
            # After the callers that were just answered, so that their next commands join.
            self._loop.call_soon(self._flush)

    def _resolve(self, reply: Any) -> None:
        if not self._under_way or isinstance(reply, hiredis.PushNotification):
            raise BrokenProtocol(f"a reply that nobody asked for: {reply!r:.100}")
        self._under_way -= 1
        pending = self.pending.popleft()
        self.pending_bytes -= len(pending.packed)
        if pending.answer.done():
            return
        if isinstance(reply, StoreError):
            self._refuse(pending, reply)
        else:
            pending.answer.set_result(reply)

    def _refuse(self, pending: Pending, error: StoreError) -> None:
        text = str(error)
        if self.on_elsewhere is not None and text.startswith(_ELSEWHERE):
            self.on_elsewhere(pending, text)
        elif text.startswith(_AWAY):
            pending.answer.set_exception(StoreUnavailable(text))
            if text.startswith(_DEMOTED):
                # It was a primary when we came. Who is it now is asked by connecting anew.
                self.cut()
        else:
            pending.answer.set_exception(error)

    def cut(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is under way ends as unavailable."""
        self.transport = None
        while self.pending:
            answer = self.pending.popleft().answer
            if not answer.done():
                answer.set_exception(StoreUnavailable(f"connection lost: {exc!r}"))
        self._on_lost(self)


def failed(reason: str) -> asyncio.Future[Any]:
    """The answer of a call that does not go out."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answer.set_exception(StoreUnavailable(reason))
    return answer
