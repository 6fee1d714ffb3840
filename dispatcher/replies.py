"""The frames of one request, numbered under one fence, stored in order.

While the bus is away frames are kept here, within bounds, and stored once it is back: a skipped one would
tear the client's stream. A bus that came back may have lost what it had, so the newest frames are stored
again with every new connection; one that is there already is refused by its number.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import msgspec

from schemas.frames import Chunk, Frame, Started, Terminal
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.process.retry import retry_until
from schemas.runtime.valkey.bus import Bus, Long
from schemas.runtime.valkey.store import StoreUnavailable

_LOG = EventLog(__name__)

_SHORT_BYTES_MAX: Final = 256 * 1024
"""Streams up to that are not counted."""
_KEPT_BYTES_MAX: Final = 8 * 1024 * 1024
"""A reader that is further behind than that has lost the stream."""
_UNSTORED_BYTES_MAX: Final = 1024 * 1024
"""What of one answer may wait for the bus here; then its backend has to wait."""
ALL_UNSTORED_BYTES_MAX: Final = 64 * 1024 * 1024
_AGAIN_BYTES_MAX: Final = 32 * 1024
"""Newest frames that are stored again after a reconnection: more than a reader can have missed."""
GRACE_S: Final = 5.0
"""How long after its request's deadline an end is still of use: its client is about to ask."""


@dataclass(slots=True)
class Room:
    """What all answers of the process together may keep here."""

    left_bytes: int = ALL_UNSTORED_BYTES_MAX


class _Queued(msgspec.Struct, frozen=True):
    frame: Frame
    long: Long | None
    size_bytes: int


class ReplyStream(msgspec.Struct, eq=False):
    """Sends the frames of one request."""

    bus: Bus
    request_id: str
    reply_to: str | None
    fence: int
    kept: bool
    """Whether the answer is fetched later: jobs and keyed requests."""
    give_up_at_s: float
    """Monotonic time after which frames are dropped: nobody waits for them any more."""
    org: str = ""
    seq: int = 0
    room: Room = msgspec.field(default_factory=Room)
    of_job: bool = False
    """Whether no key has it kept, but that it is a job."""
    is_torn: bool = False
    """Whether a frame was lost: what follows must not look like the end of a whole answer."""
    _newest: deque[_Queued] = msgspec.field(default_factory=deque)
    _stored: int = 0
    """How many of them the bus has, the oldest first."""
    _stored_bytes: int = 0
    _unstored_bytes: int = 0
    _connection: int = 0
    """The connection on which they were stored."""
    _sender: asyncio.Task[None] | None = None
    """Runs while the bus is away."""
    _kept: deque[tuple[int, int]] = msgspec.field(default_factory=deque)
    """Number and bytes of the newest chunks, as many as the bus keeps."""
    _kept_bytes: int = 0
    _first_seq: int = 0
    """The oldest frame that is kept, once older ones are not."""

    async def send(self, content: Started | Chunk | Terminal) -> bool:
        """Store and announce the next frame; False when that is hopeless.

        True also means: kept here, to be stored as soon as the bus is back. Raises ``StoreError`` when the
        bus refuses the frame, which no repetition mends; the next frame takes its number.
        """
        self._queue(content)
        if self._sender is None:
            try:
                await self._store()
            except StoreUnavailable:
                self._sender = asyncio.create_task(self._store_later())
        return not self.is_torn

    async def wait(self) -> bool:
        """Return when the bus has all frames, or it is hopeless: then False."""
        if (sender := self._sender) is not None:
            await asyncio.wait([sender])
        return not self.is_torn

    @property
    def is_full(self) -> bool:
        """Whether no more should be kept here: its sender has to ``wait``."""
        return self._unstored_bytes > _UNSTORED_BYTES_MAX or self.room.left_bytes < 0

    def drop(self) -> None:
        """Nothing follows, and what the bus does not have it need not get."""
        if self._sender is not None:
            self._sender.cancel()
        self._lose()

    def _queue(self, content: Started | Chunk | Terminal) -> None:
        self.seq += 1
        frame = Frame(self.request_id, self.fence, self.seq, content)
        size = _size_of(content)
        self._newest.append(_Queued(frame, self._long(content), size))
        self._count(size)

    def _count(self, size_bytes: int) -> None:
        self._unstored_bytes += size_bytes
        self.room.left_bytes -= size_bytes

    async def _store(self) -> None:
        """Store what the bus does not have. Raises ``StoreUnavailable``, ``StoreError``."""
        if self._connection != (now := self.bus.connection):
            self._connection, self._stored, self._stored_bytes = now, 0, 0
            self._count(sum(queued.size_bytes for queued in self._newest) - self._unstored_bytes)
        while self._stored < len(self._newest):
            queued = self._newest[self._stored]
            try:
                await self.bus.send(
                    queued.frame,
                    self.reply_to,
                    kept=self.kept,
                    long=queued.long,
                    of_job=self.of_job,
                )
            except StoreUnavailable:
                raise
            except Exception:  # a refusal, or a defect: no repetition mends either
                self._lose()
                raise
            self._note_stored(queued)

    def _note_stored(self, queued: _Queued) -> None:
        self._count(-queued.size_bytes)
        self._stored += 1
        self._stored_bytes += queued.size_bytes
        while self._stored_bytes > _AGAIN_BYTES_MAX and self._stored:
            self._stored_bytes -= self._newest.popleft().size_bytes
            self._stored -= 1

    def _lose(self) -> None:
        """What is not stored is given up; the next frame takes the first of its numbers."""
        self._count(-self._unstored_bytes)
        while len(self._newest) > self._stored:
            lost = self._newest.pop()
            self.seq = lost.frame.seq - 1
            self.is_torn = True

    async def _store_later(self) -> None:
        """Store it when the bus is back, or never."""
        until_s = max(self.give_up_at_s, time.monotonic() + GRACE_S)
        try:
            await retry_until(self._store, StoreUnavailable, until_s)
        except Exception as error:  # noqa: BLE001  # total: frames are lost, never the process
            _LOG.event(LogEvent.FRAMES_LOST, **of_request(self), error=error)
            self._lose()
        finally:
            self._sender = None

    def _long(self, content: Started | Chunk | Terminal) -> Long | None:
        """What the bus has to know of a stream that has become long, or will stay for long."""
        size = _size_of(content)
        if isinstance(content, Started) and not size:
            return None
        self._kept.append((self.seq, size))
        self._kept_bytes += size
        while self._kept_bytes > _KEPT_BYTES_MAX and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popleft()[1]
            self._first_seq = self._kept[0][0]
        stays = self.kept and self.seq > 1 and isinstance(content, Terminal)
        is_long = stays or self._kept_bytes > _SHORT_BYTES_MAX
        return Long(self.org, self._first_seq, self._kept_bytes) if is_long else None


def _size_of(content: Started | Chunk | Terminal) -> int:
    return len(content.shown or b"") if isinstance(content, Started) else len(content.body)
