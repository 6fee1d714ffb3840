"""Knows what is finished of each partition: the prefix that may be committed, and what lies beyond it. Pure.

A record under way is an entry here; a finished one is an offset and no more, whatever slow record it
stands behind. Queues of an older group generation are never committed: their partition has a new owner,
who does the work again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from schemas.runtime.kafka.consume.offsets import Mark, OffsetRuns, Run

__all__ = ["AckWindow", "Group", "Load", "Partition", "PartitionQueue"]

Partition = tuple[str, int]
"""Topic and number."""
QueueKey = tuple[Partition, int]
"""A partition in one generation of the consumer group."""
OnGap = Callable[[Partition, int, int], None]
"""Told of a partition, the offset expected, and the one that came."""


class Group(Protocol):
    """What the window needs to know of the consumer group."""

    def generation(self) -> int:
        """The current generation."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a partition weighs here."""

    records: int
    """Under way."""
    size_bytes: int
    """Of those."""
    span: int
    """Offsets from the first unfinished one to the last delivered."""


@dataclass(slots=True)
class PartitionQueue:
    """One partition in one generation."""

    unfinished_from: int
    """Every offset below is finished."""
    next_offset: int
    """The first that was not delivered yet."""
    finished: OffsetRuns = field(default_factory=OffsetRuns)
    """Beyond ``unfinished_from``."""
    remembered: deque[Run] = field(default_factory=deque)
    """Finished before this generation: not handed out when delivered."""
    under_way: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Offset to when it was delivered and when it was appended, or for both to when it was last said to rest; in the order
    of the former."""
    size_bytes: int = 0
    """Of what is under way."""
    version: int = 0
    """Grows with each finish, so that an unchanged queue is not committed again."""
    committed_version: int = 0
    newest_ms: int = 0
    """Append time of the newest record that was delivered."""
    is_blocked: bool = False
    """Nothing of it is taken any more: it stands still at a record that cannot be handled here."""

    def was_finished_before(self, offset: int) -> bool:
        """Whether an earlier owner of the partition, or an earlier run, finished the record."""
        while self.remembered and self.remembered[0][1] <= offset:
            self.remembered.popleft()
        return bool(self.remembered) and self.remembered[0][0] <= offset

    def finish(self, offset: int) -> None:
        """Mark the record, and move past the finished prefix."""
        self.finished.add(offset, offset + 1)
        self.unfinished_from = self.finished.take_from(self.unfinished_from)
        self.version += 1


class AckWindow:
    """``add`` every record in the order of delivery, ``finish`` it in any order."""

    def __init__(self, group: Group, on_gap: OnGap, on_late_start: OnGap) -> None:
        """``on_gap`` must not return, because only a restart reads skipped records again;
        ``on_late_start`` is told when retention removed what was not read yet."""
        self.records = 0
        """Under way, of all partitions."""
        self.size_bytes = 0
        """Of those."""
        self._group = group
        self._on_gap = on_gap
        self._on_late_start = on_late_start
        self._queues: dict[QueueKey, PartitionQueue] = {}
        self._remembered: dict[Partition, Mark] = {}

    def remember(self, partition: Partition, mark: Mark) -> None:
        """The partition is ours; what the mark covers is finished."""
        self._remembered[partition] = mark

    def add(
        self,
        partition: Partition,
        generation: int,
        offset: int,
        size_bytes: int,
        now_s: float,
        appended_ms: int,
    ) -> bool:
        """Register a record that was just delivered in this generation; False when it needs no
        handling: it was finished before, it is under way here since an earlier delivery, or its
        partition stands still."""
        queue = self._queue(partition, generation, offset)
        if queue.is_blocked or offset < queue.next_offset:
            return False
        if offset > queue.next_offset:
            self._on_gap(partition, queue.next_offset, offset)
        queue.next_offset = offset + 1
        queue.newest_ms = max(queue.newest_ms, appended_ms)
        if queue.was_finished_before(offset):
            return False
        queue.under_way[offset] = now_s, appended_ms
        queue.size_bytes += size_bytes
        self.records += 1
        self.size_bytes += size_bytes
        return True

    def finish(self, partition: Partition, generation: int, offset: int, size_bytes: int) -> None:
        """The effects of a record that ``add`` took are durable."""
        queue = self._remove(partition, generation, offset, size_bytes)
        if queue is not None:
            queue.finish(offset)

    def rest(
        self, partition: Partition, generation: int, offset: int, now_s: float, now_ms: int
    ) -> None:
        """A record that ``add`` took waits for a time that may be far, and was looked at now: its age, which tells what
        is stuck and what lags, begins anew."""
        queue = self._queues.get((partition, generation))
        if queue is not None and queue.under_way.pop(offset, None) is not None:
            queue.under_way[offset] = now_s, now_ms

    def drop(self, partition: Partition, generation: int, offset: int, size_bytes: int) -> None:
        """A record that ``add`` took will not be handled here: it stays unfinished for its next owner."""
        self._remove(partition, generation, offset, size_bytes)

    def block(self, partition: Partition, generation: int, offset: int, size_bytes: int) -> None:
        """A record that ``add`` took cannot be handled here, and nothing that stands behind it may
        be: the queue takes nothing more. What it took before goes on."""
        queue = self._remove(partition, generation, offset, size_bytes)
        if queue is not None:
            queue.is_blocked = True

    def _remove(
        self, partition: Partition, generation: int, offset: int, size_bytes: int
    ) -> PartitionQueue | None:
        queue = self._queues.get((partition, generation))
        if queue is None or queue.under_way.pop(offset, None) is None:
            return None
        queue.size_bytes -= size_bytes
        self.records -= 1
        self.size_bytes -= size_bytes
        return queue

    def forget_older(self) -> None:
        """At a rebalance: drop all queues of older generations. What still runs for them ends unnoticed."""
        generation = self._group.generation()
        for key in [key for key in self._queues if key[1] != generation]:
            queue = self._queues.pop(key)
            self.records -= len(queue.under_way)
            self.size_bytes -= queue.size_bytes

    def to_commit(self) -> dict[Partition, Mark]:
        """Marks of the current generation that changed since they were committed last."""
        return {
            partition: Mark(
                queue.unfinished_from, tuple(queue.finished.in_order()), queue.newest_ms
            )
            for partition, queue in self._current().items()
            if queue.version != queue.committed_version
        }

    def versions(self) -> dict[Partition, int]:
        """To be given to ``note_committed`` once what ``to_commit`` gave was committed."""
        return {partition: queue.version for partition, queue in self._current().items()}

    def note_committed(self, versions: dict[Partition, int]) -> None:
        """What was seen at these versions is committed."""
        for partition, queue in self._current().items():
            if partition in versions:
                queue.committed_version = versions[partition]

    def load_of(self, partition: Partition) -> Load:
        """What the partition weighs in the current generation."""
        queue = self._queues.get((partition, self._group.generation()))
        if queue is None:
            return Load(0, 0, 0)
        span = max(0, queue.next_offset - queue.unfinished_from)
        return Load(len(queue.under_way), queue.size_bytes, span)

    def oldest_age_s(self, now_s: float, except_in: Collection[Partition] = ()) -> float:
        """Seconds since the oldest record under way was delivered in this generation; 0 without one."""
        first = (
            next(iter(queue.under_way.values()), (now_s, 0))[0]
            for partition, queue in self._current().items()
            if partition not in except_in
        )
        return now_s - min(first, default=now_s)

    def oldest_appended_ms(self, partition: Partition) -> int:
        """When the oldest record under way of the partition was appended; 0 without one."""
        queue = self._queues.get((partition, self._group.generation()))
        return next(iter(queue.under_way.values()), (0.0, 0))[1] if queue is not None else 0

    def newest_appended_ms(self, partition: Partition) -> int:
        """When the newest record that was ever delivered of the partition was appended; 0 when nobody knows."""
        queue = self._queues.get((partition, self._group.generation()))
        known = self._remembered.get(partition) if queue is None else queue
        return 0 if known is None else known.newest_ms

    def _current(self) -> dict[Partition, PartitionQueue]:
        generation = self._group.generation()
        return {
            partition: queue for (partition, of), queue in self._queues.items() if of == generation
        }

    def _queue(self, partition: Partition, generation: int, offset: int) -> PartitionQueue:
        key = partition, generation
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = self._new_queue(partition, offset)
        return queue

    def _new_queue(self, partition: Partition, offset: int) -> PartitionQueue:
        mark = self._remembered.get(partition) or Mark(offset)
        if offset > mark.offset >= 0:
            self._on_late_start(partition, mark.offset, offset)
        queue = PartitionQueue(unfinished_from=offset, next_offset=offset, newest_ms=mark.newest_ms)
        for start, end in ((0, mark.offset), *mark.runs):
            # What is read again from an earlier point was finished all the same.
            if end > offset:
                queue.remembered.append((max(start, offset), end))
                queue.finished.add(max(start, offset), end)
        queue.unfinished_from = queue.finished.take_from(offset)
        return queue
