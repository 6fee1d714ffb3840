"""The frames of one request, numbered under one fence, stored in order.

While the bus is away frames wait, because a skipped one would tear the client's stream; a frame that
was stored before is refused by its number, so sending again is harmless.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from schemas.frames import Chunk, Frame, Started, Terminal
from schemas.runtime.bus import Bus
from schemas.runtime.retry import retry_until
from schemas.runtime.store import StoreUnavailable


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
    seq: int = 0

    async def send(self, content: Started | Chunk | Terminal) -> bool:
        """Store and announce the next frame. False when it could not be stored in time.

        Raises ``StoreError`` when the bus refuses it, which no repetition mends.
        """
        self.seq += 1
        frame = Frame(self.request_id, self.fence, self.seq, content)

        async def store() -> bool:
            return await self.bus.send(frame, self.reply_to, kept=self.kept)

        try:
            await retry_until(store, StoreUnavailable, max(self.give_up_at_s, time.monotonic() + 1))
        except StoreUnavailable:
            return False
        return True
