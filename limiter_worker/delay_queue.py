"""Where deferred requests wait: nothing but their time holds them up, and they hold up nobody.

Waiting takes no batch slot and keeps the offset: after a stop or a rebalance whoever comes next reads the
record again. Only so many are handed on at once that thousands who wait in vain cost the ledger little.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from limiter_worker.admission import Admission
from limiter_worker.deferral import WaitingCounts
from limiter_worker.taken import Taken
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock

_RECORDS_MAX = 16_384
_BYTES_MAX = 128 * 1024 * 1024
_LOOK_AGAIN_S = 0.1
ASKED_AT_ONCE = 64
_PAUSE_S = 0.1
"""Between two such handfuls."""


@dataclass(slots=True)
class DelayQueue:
    """Takes batches of the deferred topics and hands on what is due, as bytes as they came."""

    admission: Admission
    waiters: WaitingCounts
    clock: Clock
    again: Callable[[Taken], None]
    """Takes a request whose time has come."""
    _waiting: list[tuple[int, int, Record]] = field(default_factory=list)
    """A heap of (due time in ms, order of arrival, record)."""
    _bytes: int = 0
    _order: Iterator[int] = field(default_factory=itertools.count)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closed: bool = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken in until something is due."""
        return len(self._waiting) >= _RECORDS_MAX or self._bytes >= _BYTES_MAX

    async def handle(self, batch: list[Record]) -> None:
        """Take the records in; returns at once, unless the room is full."""
        while self.is_full and not self._is_closed:  # noqa: ASYNC110  # rare
            await asyncio.sleep(_LOOK_AGAIN_S)
        for taken in self.admission.take(batch):
            self.waiters.note(taken.accepted.request, taken.accepted.not_before_ms)
            self.push(taken.record, taken.accepted.not_before_ms)

    def push(self, record: Record, due_ms: int) -> None:
        """One that waits until ``due_ms``: a new one, or one that was asked for in vain."""
        if self._is_closed:
            return
        heapq.heappush(self._waiting, (due_ms, next(self._order), record))
        self._bytes += len(record.value or b"")
        self._arrived.set()

    async def run(self) -> None:
        """Hand on what is due, for ever."""
        while True:
            await self._until_due()
            if due := self._take_due(self.clock.now_ms()):
                for taken in self.admission.take(due):
                    self.again(taken)
                await asyncio.sleep(_PAUSE_S)

    async def forget(self, *_: Any, **__: Any) -> None:
        """The partitions were revoked: whoever owns them next reads the records again."""
        self._waiting.clear()
        self._bytes = 0

    async def close(self) -> None:
        """Before the process stops: what waits is read again by whoever comes next."""
        self._is_closed = True
        await self.forget()

    async def _until_due(self) -> None:
        """Returns when the first is due, or when another has arrived that may be due earlier."""
        self._arrived.clear()
        if not self._waiting:
            await self._arrived.wait()
            return
        left_s = (self._waiting[0][0] - self.clock.now_ms()) / 1000
        if left_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left_s)

    def _take_due(self, now_ms: int) -> list[Record]:
        due: list[Record] = []
        while self._waiting and self._waiting[0][0] <= now_ms and len(due) < ASKED_AT_ONCE:
            record = heapq.heappop(self._waiting)[2]
            self._bytes -= len(record.value or b"")
            due.append(record)
        return due
