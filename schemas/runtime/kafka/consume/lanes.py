"""Keeps records that no handler has yet, and knows which of them may be the next batch. Pure.

A lane is what is handled in order: a whole topic, or each of its partitions, so that one that waits keeps no
other waiting. What arrives while a lane's batches are under way is its next batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.runtime.kafka.consume.records import Record

__all__ = ["Lanes"]

_WHOLE_TOPIC = -1


@dataclass(slots=True)
class Lanes:
    """The lanes of one topic."""

    batch_max: int
    """Records of a batch."""
    batches_max: int
    """Batches of a lane that are under way at once; 1 keeps its order."""
    by_partition: bool
    _waiting: dict[int, list[Record]] = field(default_factory=dict)
    """Lane to its records; a lane without any is left out."""
    _under_way: Counter[int] = field(default_factory=Counter)

    def add(self, record: Record) -> bool:
        """The record waits; True when its lane may begin a batch."""
        lane = self._lane_of(record)
        self._waiting.setdefault(lane, []).append(record)
        return self._under_way[lane] < self.batches_max

    def take(self) -> list[Record]:
        """The next batch, under way from now on; empty when no lane may begin one."""
        for lane, waiting in self._waiting.items():
            if self._under_way[lane] < self.batches_max:
                batch, left = waiting[: self.batch_max], waiting[self.batch_max :]
                if left:
                    self._waiting[lane] = left
                else:
                    del self._waiting[lane]
                self._under_way[lane] += 1
                return batch
        return []

    def end(self, batch: Sequence[Record]) -> bool:
        """The batch is under way no more; True when its lane has another."""
        lane = self._lane_of(batch[0])
        self._under_way[lane] -= 1
        return lane in self._waiting

    def clear(self) -> list[Record]:
        """All that waited, and waits no more."""
        waited = [record for records in self._waiting.values() for record in records]
        self._waiting.clear()
        return waited

    def _lane_of(self, record: Record) -> int:
        return record.partition if self.by_partition else _WHOLE_TOPIC
