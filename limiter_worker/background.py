"""Where background requests wait for their turn: after interactive ones, and for limits nobody stated.

Their records keep their offsets, and what waits here is bytes as they came. It is asked for while the
interactive requests are not behind, one batch at a time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from limiter_worker.admission import Admission, Left
from limiter_worker.taken import Taken
from limiter_worker.turns import Turns
from schemas.flex import FLEX_HEADER
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock

_BATCH_MAX: Final = 256
_BEHIND_PAUSE_S: Final = 0.05
_PARKED_S: Final = (0.5, 1.0)
_OVERDUE_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: Record
    size: int
    deadline_ms: int


@dataclass(slots=True)
class Background:
    """Takes the records of the background topic, and background requests that are decided again."""

    admission: Admission
    clock: Clock
    must_wait: Callable[[], bool]
    """Whether interactive requests are behind."""
    route: Callable[[Left], bool]
    """Takes what is left for a reason of its own; False when it waits here."""
    push_flex: Callable[[Record], None]
    """Takes what waits for room."""
    _turns: Turns[_Waiting] = field(default_factory=Turns)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _looked_s: float = 0.0
    _is_closed: bool = False

    def __len__(self) -> int:
        return len(self._turns)

    async def handle(self, batch: list[Record]) -> None:
        """Line the records up; returns at once. They are decoded when their turn comes."""
        if self._is_closed:
            return
        for record in batch:
            self._push(record)

    def push(self, taken: Taken) -> None:
        """Line up a request that was read before."""
        self._push(taken.record)

    async def run(self) -> None:
        """Ask batch after batch, for ever."""
        while True:
            await self._until_turn()
            if self.must_wait():
                await asyncio.sleep(_BEHIND_PAUSE_S)
            else:
                await self.ask()

    async def ask(self) -> None:
        """Ask for the next batch: those whose deadline passed, and those whose turn it is."""
        now_s = self.clock.monotonic_s()
        asked = self._overdue(now_s) + self._turns.take(now_s, _BATCH_MAX)
        if not asked:
            return
        waiting = {id(item.record): (org, item) for org, _, item in asked}
        taken = self.admission.take([item.record for _, _, item in asked])
        left = await self._admit(taken)
        parked: defaultdict[str, list[tuple[int, _Waiting]]] = defaultdict(list)
        for each in left:
            if not self.route(each):
                org, item = waiting[id(each.taken.record)]
                parked[org].append((item.size, item))
        for org, count in Counter(org for org, _, _ in asked).items():
            stay = parked[org]
            again_s = self.clock.monotonic_s() + random.uniform(*_PARKED_S)  # noqa: S311  # jitter
            self._turns.settle(org, count - len(stay), stay, again_s)

    async def forget(self, *_: Any, **__: Any) -> None:
        """The partitions were revoked: whoever owns them next reads the records again."""
        self._turns.clear()

    async def close(self) -> None:
        """Before the process stops: what waits is read again by whoever comes next."""
        self._is_closed = True
        self._turns.clear()

    async def _admit(self, taken: Sequence[Taken]) -> list[Left]:
        left: list[Left] = []
        for first in range(0, len(taken), _BATCH_MAX):
            left += await self.admission.admit(taken[first : first + _BATCH_MAX])
        return left

    async def _until_turn(self) -> None:
        """Returns when one may be asked for, or when another has arrived."""
        self._arrived.clear()
        now_s = self.clock.monotonic_s()
        next_s = self._turns.next_s()
        left_s = _OVERDUE_EVERY_S if next_s is None else min(_OVERDUE_EVERY_S, next_s - now_s)
        if left_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left_s)

    def _overdue(self, now_s: float) -> list[tuple[str, int, _Waiting]]:
        if now_s - self._looked_s < _OVERDUE_EVERY_S:
            return []
        self._looked_s = now_s
        now_ms = self.clock.now_ms()
        return self._turns.take_where(lambda waiting: waiting.deadline_ms <= now_ms)

    def _push(self, record: Record) -> None:
        headers = record.headers
        if headers.get(FLEX_HEADER[0]) == FLEX_HEADER[1]:
            self.push_flex(record)
            return
        org = (record.key or b"").decode(errors="replace")
        size = len(record.value or b"")
        stated = headers.get("deadline_ms", b"")
        deadline_ms = int(stated) if stated.isdigit() else self.clock.now_ms()
        self._turns.push(org, size, _Waiting(record, size, deadline_ms))
        self._arrived.set()
