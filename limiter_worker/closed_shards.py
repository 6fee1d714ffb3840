"""Where requests wait whose shard of the ledger is being rebuilt: they hold no batch slot and no place in the fair
queue, so that those of other shards go on as if nothing were.

A few of each shard are asked again several times a second. With the first that is answered all of its shard
go back; one whose deadline passed goes back in any case, because its client is told then.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from limiter_worker.admission import Left
from limiter_worker.taken import Taken
from schemas.runtime.process.clock import Clock

_ASKED_AT_ONCE: Final = 4
"""Of each shard."""
_PAUSE_S: Final = (0.1, 0.2)


@dataclass(slots=True)
class ClosedShards:
    """Holds requests by shard; ``again`` takes those that are to be asked for."""

    shard_of: Callable[[str], int]
    """The shard of an organization."""
    clock: Clock
    again: Callable[[Taken], None]
    _waiting: defaultdict[int, deque[Taken]] = field(default_factory=lambda: defaultdict(deque))
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def heed(self, batch: Sequence[Taken], left: Sequence[Left]) -> None:
        """What a batch says of shards: those of its requests that are left wait here, and whoever waits for
        a shard that answered is asked for."""
        closed = [each.taken for each in left if each.why == "closed"]
        if not closed and not self._waiting:
            return
        still_closed = {self._shard(taken) for taken in closed}
        for shard in {self._shard(taken) for taken in batch} - still_closed:
            for taken in self._waiting.pop(shard, ()):
                self.again(taken)
        for taken in closed:
            self._waiting[self._shard(taken)].append(taken)
            self._arrived.set()

    async def run(self) -> None:
        """Ask again and again, for ever."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(random.uniform(*_PAUSE_S))  # noqa: S311  # jitter
            self.ask()

    def ask(self) -> None:
        """Ask for the first few of each shard, and for those whose clients are to be told."""
        now_ms = self.clock.now_ms()
        for shard, waiting in list(self._waiting.items()):
            asked = [waiting.popleft() for _ in range(min(_ASKED_AT_ONCE, len(waiting)))]
            overdue = [taken for taken in waiting if _is_to_be_told(taken, now_ms)]
            if overdue:
                self._waiting[shard] = deque(
                    taken for taken in waiting if not _is_to_be_told(taken, now_ms)
                )
            for taken in asked + overdue:
                self.again(taken)
        self._waiting = defaultdict(deque, {s: line for s, line in self._waiting.items() if line})
        if not self._waiting:
            self._arrived.clear()

    async def forget(self, *_: Any, **__: Any) -> None:
        """The partitions were revoked: whoever owns them next reads the records again."""
        self._waiting.clear()
        self._arrived.clear()

    def _shard(self, taken: Taken) -> int:
        return self.shard_of(taken.accepted.request.org)


def _is_to_be_told(taken: Taken, now_ms: int) -> bool:
    request = taken.accepted.request
    return not taken.is_told and not request.background and now_ms >= request.deadline_ms
