"""The frames of one request, numbered under one fence, stored in order.

While the bus is away frames wait, because a skipped one would tear the client's stream; a frame that
was stored before is refused by its number, so sending again is harmless.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from schemas.frames import Chunk, Frame, Started, Terminal
from schemas.runtime.bus import Bus, Long
from schemas.runtime.retry import retry_until
from schemas.runtime.store import StoreUnavailable

_SHORT_BYTES_MAX: Final = 256 * 1024
"""Streams up to that are not counted."""
_KEPT_BYTES_MAX: Final = 8 * 1024 * 1024
"""A reader that is further behind than that has lost the stream."""


@dataclass(slots=True)
class ReplyStream:
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
    _kept: deque[tuple[int, int]] = field(default_factory=deque)
    """Number and bytes of the newest chunks, as many as the bus keeps."""
    _kept_bytes: int = 0
    _first_seq: int = 0
    """The oldest frame that is kept, once older ones are not."""

    async def send(self, content: Started | Chunk | Terminal) -> bool:
        """Store and announce the next frame. False when it could not be stored in time.

        Raises ``StoreError`` when the bus refuses it, which no repetition mends.
        """
        self.seq += 1
        frame = Frame(self.request_id, self.fence, self.seq, content)
        long = self._long(content)

        async def store() -> bool:
            return await self.bus.send(frame, self.reply_to, kept=self.kept, long=long)

        try:
            await retry_until(store, StoreUnavailable, max(self.give_up_at_s, time.monotonic() + 1))
        except StoreUnavailable:
            return False
        return True

    def _long(self, content: Started | Chunk | Terminal) -> Long | None:
        """What the bus has to know of a stream that has become long, or will stay for long."""
        if isinstance(content, Started):
            return None
        size = len(content.body)
        self._kept.append((self.seq, size))
        self._kept_bytes += size
        while self._kept_bytes > _KEPT_BYTES_MAX and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popleft()[1]
            self._first_seq = self._kept[0][0]
        stays = self.kept and self.seq > 1 and isinstance(content, Terminal)
        is_long = stays or self._kept_bytes > _SHORT_BYTES_MAX
        return Long(self.org, self._first_seq, self._kept_bytes) if is_long else None
