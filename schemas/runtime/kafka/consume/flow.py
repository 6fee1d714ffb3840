"""Decides which partitions are read: one that reaches a bound is paused, alone and for a stated cause. Pure.

Bounds count what is under way, never what is finished and waits for a slow neighbour; only the span of
offsets that a partition may run ahead of its first unfinished record has a bound of its own, far larger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from schemas.runtime.kafka.consume.ack_window import AckWindow, Load, Partition

__all__ = ["Bounds", "Flow", "Tap"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of one topic may be under way in a process."""

    records_max: int = 4_096
    bytes_max: int = 128 * _MIB
    span_max: int = 200_000
    """Offsets that one partition may run ahead of its first unfinished record."""
    partition_share: int = 4
    """No partition takes more than this part of what all of a topic may: one of so many."""

    def cause_to_pause(self, partition: Load, records: int, size_bytes: int) -> str | None:
        """Why the partition must not be read on, given its load and the topic's; ``None`` if it may."""
        if partition.records * self.partition_share >= self.records_max:
            return f"{partition.records} records under way"
        if partition.size_bytes * self.partition_share >= self.bytes_max:
            return f"{partition.size_bytes // _MIB} MiB under way"
        if partition.span >= self.span_max:
            return f"{partition.span} offsets ahead of an unfinished record"
        if records >= self.records_max:
            return f"{records} records under way in all partitions"
        if size_bytes >= self.bytes_max:
            return f"{size_bytes // _MIB} MiB under way in all partitions"
        return None

    def half(self) -> Bounds:
        """Where a paused partition is read again."""
        return replace(
            self,
            records_max=max(1, self.records_max // 2),
            bytes_max=max(1, self.bytes_max // 2),
            span_max=max(1, self.span_max // 2),
        )


class Tap(Protocol):
    """Stops and starts the reading of single partitions."""

    def pause(self, partition: Partition) -> None:
        """Fetch no more of it; what was fetched is still delivered."""

    def resume(self, partition: Partition) -> None:
        """Fetch it again, at once."""


class Flow:
    """Watches one topic's window after each delivery and each finish."""

    def __init__(self, window: AckWindow, bounds: Bounds, tap: Tap) -> None:
        self.paused: dict[Partition, str] = {}
        """Partition to the cause."""
        self._window = window
        self._bounds = bounds
        self._low = bounds.half()
        self._tap = tap

    def after_delivery(self, partition: Partition) -> None:
        """Pause the partition if it, or the topic, is at a bound."""
        if partition not in self.paused and (cause := self._cause(partition, self._bounds)):
            self.paused[partition] = cause
            self._tap.pause(partition)

    def after_finish(self) -> None:
        """Resume what is well below its bounds again."""
        if not self.paused:
            return
        for partition in [p for p in self.paused if self._cause(p, self._low) is None]:
            del self.paused[partition]
            self._tap.resume(partition)

    def forget(self) -> None:
        """At a rebalance the consumer reads every partition that it is given."""
        self.paused.clear()

    def excused(self) -> set[Partition]:
        """Paused partitions whose old records nobody has to mend. One that ran too far ahead is none of
        them: the unfinished record that it waits for is the fault."""
        far = self._bounds.span_max
        return {p for p in self.paused if self._window.load_of(p).span < far}

    def _cause(self, partition: Partition, bounds: Bounds) -> str | None:
        window = self._window
        load = window.load_of(partition)
        return bounds.cause_to_pause(load, window.records, window.size_bytes)
