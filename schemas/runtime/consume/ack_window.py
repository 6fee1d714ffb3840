"""Acknowledges exactly the finished prefix of each partition, in offset order.

Faust commits past unfinished events when acks arrive out of order (faust.md 1.1), so it only ever sees
``ack`` for the prefix. Entries of an older group generation are never acknowledged: their partition
has a new owner, who does the work again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from faust.types import TP, EventT

Lane = tuple[TP, int | None]
"""A partition in one generation of the consumer group."""


class Group(Protocol):
    """What the window needs to know of the consumer group."""

    def generation(self) -> int:
        """The current generation."""

    def committed(self, partition: TP) -> int | None:
        """The next offset the group will read, as committed; ``None`` when unknown."""


@dataclass(slots=True)
class Entry:
    """One event under way."""

    event: EventT[Any]
    added_at_s: float
    finished: bool = False


class AckWindow:
    """``add`` every event in the order of iteration, ``finish`` it in any order."""

    def __init__(self, group: Group, on_gap: Callable[[Lane, int, int], None]) -> None:
        """``on_gap(lane, expected, got)`` is told when events were skipped; it must not return
        if the skipped events still exist, because only a restart reads them again."""
        self._group = group
        self._on_gap = on_gap
        self._lanes: dict[Lane, deque[Entry]] = {}
        self._next_offset: dict[Lane, int] = {}

    def add(self, event: EventT[Any], now_s: float) -> Entry:
        """Register an event that was just delivered."""
        message = event.message
        lane = message.tp, message.generation_id
        expected = self._next_offset.get(lane)
        if expected is None:
            expected = self._group.committed(message.tp)
        if expected is not None and message.offset > expected:
            self._on_gap(lane, expected, message.offset)
        self._next_offset[lane] = message.offset + 1
        entry = Entry(event, now_s)
        self._lanes.setdefault(lane, deque()).append(entry)
        return entry

    def finish(self, entry: Entry) -> None:
        """The event's effects are durable: acknowledge as much of its partition as is finished."""
        entry.finished = True
        message = entry.event.message
        if message.generation_id != self._group.generation():
            return
        lane = self._lanes.get((message.tp, message.generation_id))
        while lane and lane[0].finished:
            lane.popleft().event.ack()

    def forget_older(self) -> None:
        """Drop all lanes of older generations; called at every rebalance."""
        generation = self._group.generation()
        for lane in [lane for lane in self._lanes if lane[1] != generation]:
            del self._lanes[lane]
        for lane in [lane for lane in self._next_offset if lane[1] != generation]:
            del self._next_offset[lane]

    @property
    def unfinished(self) -> int:
        """Events delivered and not yet acknowledged."""
        return sum(len(lane) for lane in self._lanes.values())

    def oldest_age_s(self, now_s: float) -> float:
        """Seconds since the oldest unacknowledged event was delivered; 0 when there is none."""
        return max((now_s - lane[0].added_at_s for lane in self._lanes.values() if lane), default=0)
