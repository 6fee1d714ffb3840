"""Whose background requests are asked for next: fair by organization, and few of those that must wait. Pure.

An organization at its limit has as many asked again as went through lately, twice over, so that
thousands that wait cost the ledger no more than the places that become free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, TypeVar

from schemas.fair_queue import FairQueue

T = TypeVar("T")

_SHARE_FIRST: Final = 16
_SHARE_LEAST: Final = 4
_SHARE_MOST: Final = 256


@dataclass(slots=True)
class _Line(Generic[T]):
    """What waits of one organization, oldest first, as (size, item)."""

    items: deque[tuple[int, T]] = field(default_factory=deque)
    share: int = _SHARE_FIRST
    """How many may be asked for at once."""
    not_before_s: float = 0.0


@dataclass(slots=True)
class Turns(Generic[T]):
    """Items by organization; time is monotonic seconds, sizes are bytes."""

    _lines: dict[str, _Line[T]] = field(default_factory=dict)
    _length: int = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return (item for line in self._lines.values() for _, item in line.items)

    def push(self, org: str, size: int, item: T) -> None:
        """One more, behind those of its organization."""
        self._lines.setdefault(org, _Line()).items.append((size, item))
        self._length += 1

    def take(self, now_s: float, count: int) -> list[tuple[str, int, T]]:
        """The next items as (organization, size, item), in fair order by size."""
        fair: FairQueue[tuple[str, int, T]] = FairQueue()
        for org, line in self._lines.items():
            if line.not_before_s <= now_s:
                for size, item in islice(line.items, min(line.share, count)):
                    fair.push(org, size, (org, size, item))
        taken: list[tuple[str, int, T]] = []
        while len(taken) < count and (chosen := fair.pop()) is not None:
            # The queue keeps each organization's order, so what it gives stands first in its line.
            self._lines[chosen[0]].items.popleft()
            taken.append(chosen)
        for org in dict.fromkeys(org for org, _, _ in taken):
            # Whoever had a turn comes last in the next, however few are taken then.
            self._lines[org] = self._lines.pop(org)
        self._length -= len(taken)
        return taken

    def take_where(self, is_wanted: Callable[[T], bool]) -> list[tuple[str, int, T]]:
        """The items that are wanted, wherever they stand and whether or not they must wait."""
        taken: list[tuple[str, int, T]] = []
        for org, line in self._lines.items():
            wanted = [(org, size, item) for size, item in line.items if is_wanted(item)]
            if wanted:
                line.items = deque(pair for pair in line.items if not is_wanted(pair[1]))
                taken += wanted
        self._length -= len(taken)
        return taken

    def settle(
        self, org: str, passed: int, parked: Sequence[tuple[int, T]], not_before_s: float
    ) -> None:
        """What became of those taken of one organization: how many are gone, and which must wait."""
        line = self._lines.setdefault(org, _Line())
        if parked:
            line.items.extendleft(reversed(parked))
            self._length += len(parked)
            line.share = min(_SHARE_MOST, max(_SHARE_LEAST, 2 * passed))
            line.not_before_s = not_before_s
        elif line.items:
            line.share = min(_SHARE_MOST, 2 * line.share)
        else:
            del self._lines[org]

    def next_s(self) -> float | None:
        """When the next may be asked for; ``None`` when nothing waits."""
        return min((line.not_before_s for line in self._lines.values() if line.items), default=None)

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._length = 0
