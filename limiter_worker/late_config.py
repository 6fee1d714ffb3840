"""Where requests wait whose limits are not known here yet: each alone, in no batch and for a bounded time.

What comes in time is admitted as any other; what does not is refused with 503, through the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from limiter_worker.limits import UNAVAILABLE
from limiter_worker.readiness import standing_of
from limiter_worker.taken import Taken
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock

_WAIT_S: Final = 10.0
"""How long a client on a connection waits for it; a job waits until its deadline."""
_BEFORE_DEADLINE_S: Final = 0.5
"""So that the client hears why, and not that time is over."""
_LOOK_AGAIN_S: Final = 0.25


@dataclass(slots=True)
class LateConfig:
    """Holds requests until the configuration knows all that they name. ``again`` takes them then."""

    config: ConfigFeed
    clock: Clock
    again: Callable[[Taken], None]
    _waiting: list[tuple[float, Taken]] = field(default_factory=list)
    """(monotonic time at which it is given up, request)."""
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, taken: Taken) -> None:
        """One more that waits."""
        request = taken.accepted.request
        left_s = (request.deadline_ms - self.clock.now_ms()) / 1000 - _BEFORE_DEADLINE_S
        wait_s = left_s if request.background else min(left_s, _WAIT_S)
        self._waiting.append((self.clock.monotonic_s() + wait_s, taken))
        self._arrived.set()

    async def run(self) -> None:
        """Look at those who wait whenever the configuration moves, for ever."""
        while True:
            await self._arrived.wait()
            self.look()
            await self.config.wait_for(self.config.snapshot.offset + 1, _LOOK_AGAIN_S)

    def look(self) -> None:
        """Hand on those whose limits are known by now, and those whose time is over."""
        waiting, self._waiting = self._waiting, []
        now_s = self.clock.monotonic_s()
        for give_up_s, taken in waiting:
            if standing_of(taken.accepted.request, self.config.snapshot) not in (
                "not_yet",
                "closed",
            ):
                self.again(taken)
            elif now_s >= give_up_s:
                self.again(msgspec.structs.replace(taken, decline=UNAVAILABLE))
            else:
                self._waiting.append((give_up_s, taken))
        if not self._waiting:
            self._arrived.clear()

    async def forget(self, *_: Any, **__: Any) -> None:
        """The partitions were revoked: whoever owns them next reads the records again."""
        self._waiting.clear()
