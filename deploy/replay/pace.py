"""The pace of a replay: how far it is, and how long it waits so that it reads no more than so many records a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition

from accounting.rebuild.log import Log
from accounting.rebuild.records import LogRecord
from deploy.replay.checkpoint import Checkpoint
from deploy.replay.plan import Plan

__all__ = ["Pace", "read_plan"]

_PIECE: Final = 500
_PIECES_PER_S: Final = 5
COMMIT_EVERY: Final = 5_000
"""Records: at most so many are read again after a kill."""


@dataclass(slots=True)
class Pace:
    """How many records were read of how many, and the most in a second; no bound without one."""

    total: int
    per_s: float | None = None
    done: int = 0
    began_s: float = field(default_factory=time.monotonic)
    _resumed: int = 0

    def resume(self, done: int) -> None:
        """So many were read before a kill."""
        self.done = self._resumed = done

    def note(self, records: int) -> None:
        """So many more were read, which nobody holds back."""
        self.done += records

    def measure(self) -> tuple[int, int] | None:
        """Read, of how many; for a bar."""
        return (self.done, self.total) if self.total else None

    @property
    def piece(self) -> int:
        """How many records are worked at before the pace is looked at again."""
        return (
            _PIECE if self.per_s is None else max(1, min(_PIECE, int(self.per_s / _PIECES_PER_S)))
        )

    async def after(self, records: int) -> None:
        """So many more were read; returns when the next may be."""
        self.done += records
        if self.per_s is not None:
            due_s = self.began_s + (self.done - self._resumed) / self.per_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    @property
    def now_s(self) -> float:
        """The monotonic clock."""
        return time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it took so far."""
        return time.monotonic() - self.began_s


async def read_plan(
    log: Log, plan: Plan, checkpoint: Checkpoint, pace: Pace
) -> AsyncIterator[tuple[int, Sequence[LogRecord]]]:
    """The records of a plan that were not read before, partition by partition, in pieces. What retention takes
    meanwhile is counted as ``gone``. Raises ``KafkaError`` and ``LogUnreadable``."""
    places = checkpoint.places()
    pace.resume(sum(places.get(s.partition, s.begin) - s.begin for s in plan.stretches))
    for stretch in plan.stretches:
        at = places.get(stretch.partition, stretch.begin)
        partition = TopicPartition(plan.topic, stretch.partition)
        async for page in log.pages(partition, at, stretch.end):
            records = list(page)
            for start in range(0, len(records), pace.piece):
                piece = records[start : start + pace.piece]
                checkpoint.count("gone", max(0, piece[0].offset - at))
                checkpoint.count("read", len(piece))
                yield stretch.partition, piece
                read, at = piece[-1].offset + 1 - at, piece[-1].offset + 1
                await pace.after(read)
        if at < stretch.end:
            checkpoint.count("gone", stretch.end - at)
