"""What stands in front of admission: a queue that is fair by organization, emptied in batches.

A loud organization's backlog delays a quiet one by a batch at most. What has waited here for too long
is refused with an honest hint, long before its deadline; time without the ledger does not count.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from limiter_worker.admission import Admission, Left
from limiter_worker.taken import Taken
from schemas.errors import RETRY_HINT_MAX_MS, RETRY_HINT_MIN_MS
from schemas.fair_queue import FairQueue
from schemas.ledger.documents import Decline
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock

BATCH_MAX: Final = 256
_BATCHES_UNDER_WAY: Final = 4
"""While one batch waits for the broker, the next ones are decided."""
SHED_AFTER_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.1
_BEHIND: Final = 64
"""With so many waiting, background work waits too."""
_LEDGER_PAUSE_S: Final = 0.25
_RESTING_MAX: Final = 4 * BATCH_MAX
"""Above that a batch that must come again keeps its place among those under way."""
_PACE_OVER_S: Final = 5.0


@dataclass(slots=True)
class Pace:
    """How many requests were decided within the last seconds."""

    _decided: deque[tuple[float, int]] = field(default_factory=deque)
    _sum: int = 0

    def note(self, now_s: float, count: int) -> None:
        """So many more."""
        self._decided.append((now_s, count))
        self._sum += count
        while self._decided and self._decided[0][0] < now_s - _PACE_OVER_S:
            self._sum -= self._decided.popleft()[1]

    def drain_ms(self, waiting: int, now_s: float) -> int:
        """How long so many take at this pace, within the bounds of a hint."""
        since_s = self._decided[0][0] if self._decided else now_s
        per_s = self._sum / max(1.0, now_s - since_s)
        least, most = RETRY_HINT_MIN_MS, RETRY_HINT_MAX_MS
        return most if per_s <= 0 else max(least, min(most, int(1_000 * waiting / per_s)))


class _Waiting(msgspec.Struct, frozen=True):
    taken: Taken
    since_s: float


@dataclass(slots=True)
class FairIntake:
    """Takes the records of the interactive topic, and requests that are to be decided again."""

    admission: Admission
    clock: Clock
    route: Callable[[Left], bool]
    """Takes what is left for a reason of its own; False when it is only to be asked again."""
    heed: Callable[[Sequence[Taken], Sequence[Left]], None]
    """Takes what is left because its shard of the ledger is closed, and gives back whose shard answers."""
    _queue: FairQueue[_Waiting] = field(default_factory=FairQueue)
    _pace: Pace = field(default_factory=Pace)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_BATCHES_UNDER_WAY))
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)
    _outage_s: float = 0.0
    """When the ledger last did not answer."""
    _looked_s: float = 0.0
    _resting: int = 0
    """Requests that are to be asked again, and pause before it."""

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that background work must wait."""
        return len(self._queue) >= _BEHIND

    async def handle(self, batch: list[Record]) -> None:
        """Queue the requests in the records; returns at once."""
        for taken in self.admission.take(batch):
            self.push(taken)

    def push(self, taken: Taken) -> None:
        """Queue one request behind those of its organization."""
        request = taken.accepted.request
        tokens = request.input_tokens_bound + request.output_tokens_bound
        self._queue.push(request.org, tokens, _Waiting(taken, self.clock.monotonic_s()))
        self._arrived.set()

    async def run(self) -> None:
        """Hand over batch after batch, for ever."""
        while True:
            await self._arrived.wait()
            await self._slots.acquire()
            batch = self.next_batch()
            if not batch:
                self._slots.release()
                continue
            task = asyncio.create_task(self._work(batch))
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def next_batch(self) -> list[Taken]:
        """Those who waited too long, to be refused, and then the next in fair order."""
        batch = self._too_old()
        while len(batch) < BATCH_MAX and (waiting := self._queue.pop()) is not None:
            batch.append(waiting.taken)
        if not self._queue:
            self._arrived.clear()
        return batch

    async def settled(self) -> None:
        """Returns once nothing waits and no batch is under way."""
        while self._queue or self._under_way:  # noqa: ASYNC110  # only at the stop
            await asyncio.sleep(_LOOK_EVERY_S)

    async def forget(self, *_: Any, **__: Any) -> None:
        """The partitions were revoked: whoever owns them next reads the records again."""
        self._queue = FairQueue()
        self._arrived.clear()

    def _too_old(self) -> list[Taken]:
        now_s = self.clock.monotonic_s()
        if not self._queue or now_s - self._looked_s < _LOOK_EVERY_S:
            return []
        hint_ms = self._pace.drain_ms(len(self._queue), now_s)
        shed = Decline(why="overloaded", retry_after_ms=hint_ms)
        left = itertools.count(BATCH_MAX - 1, -1)
        too_old = self._queue.drop_heads(
            lambda waiting: self._is_too_old(waiting, now_s) and next(left) >= 0
        )
        if len(too_old) < BATCH_MAX:
            self._looked_s = now_s
        return [msgspec.structs.replace(waiting.taken, decline=shed) for waiting in too_old]

    def _is_too_old(self, waiting: _Waiting, now_s: float) -> bool:
        """Ages are those of this process, because clocks differ. Background work is never shed."""
        request = waiting.taken.accepted.request
        since_s = max(waiting.since_s, self._outage_s)
        return not request.background and now_s - since_s > SHED_AFTER_S

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._slots.release()

    async def _work(self, batch: Sequence[Taken]) -> None:
        left = await self.admission.admit(batch)
        self.heed(batch, left)
        again = [each for each in left if each.why != "closed" and not self.route(each)]
        self._pace.note(self.clock.monotonic_s(), len(batch) - len(again))
        if not again:
            return
        is_outage = len(again) == len(batch) and any(each.why == "ledger" for each in again)
        self._resting += len(again)
        resting = asyncio.create_task(self._come_again(again, is_outage=is_outage))
        self._under_way.add(resting)
        resting.add_done_callback(self._under_way.discard)
        if self._resting > _RESTING_MAX:
            await resting

    async def _come_again(self, again: Sequence[Left], *, is_outage: bool) -> None:
        """Queue them once more after a pause, in which others are decided: a shard may be closed for itself."""
        if is_outage:
            self._outage_s = self.clock.monotonic_s()
        await asyncio.sleep(_LEDGER_PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
        self._resting -= len(again)
        if is_outage:
            self._outage_s = self.clock.monotonic_s()
        for each in again:
            self.push(each.taken)
