"""A queue that is fair by organization: deficit round robin over tokens. Pure.

Each organization has a queue of its own, served in turn; a turn is worth ``quantum`` tokens, and what a
request costs beyond it is carried over. So an organization with ten times the requests, or with requests
ten times as large, gets no more tokens through than its neighbour. An idle one saves nothing up.
Source: M. Shreedhar and G. Varghese, Efficient Fair Queuing Using Deficit Round Robin, 1995.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

QUANTUM_TOKENS: Final = 2_048
"""About an ordinary request, so that a turn usually serves one."""


@dataclass(slots=True)
class _Lane(Generic[T]):
    """What waits of one organization, oldest first, as (tokens, item)."""

    items: deque[tuple[int, T]] = field(default_factory=deque)
    deficit_tokens: int = 0


class FairQueue(Generic[T]):
    """``push`` in order of arrival, ``pop`` in fair order. Bounding its length is its owner's part."""

    def __init__(self, quantum_tokens: int = QUANTUM_TOKENS) -> None:
        self._quantum_tokens = quantum_tokens
        self._lanes: dict[str, _Lane[T]] = {}
        self._turns: deque[str] = deque()
        """Organizations with something waiting, in the order of their turns."""
        self._is_in_turn = False
        """Whether the first of them has been given its quantum for this turn."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        for lane in self._lanes.values():
            yield from (item for _, item in lane.items)

    def waiting(self, org: str) -> int:
        """How many items of one organization wait."""
        lane = self._lanes.get(org)
        return len(lane.items) if lane else 0

    @property
    def organizations(self) -> int:
        """How many organizations have something waiting."""
        return len(self._turns)

    def push(self, org: str, tokens: int, item: T) -> None:
        """Queue an item that is worth so many tokens; a cost below 1 counts as 1."""
        lane = self._lanes.get(org)
        if lane is None:
            lane = self._lanes[org] = _Lane()
            self._turns.append(org)
        lane.items.append((max(1, tokens), item))
        self._length += 1

    def pop(self) -> T | None:
        """The next item in fair order; ``None`` when nothing waits."""
        if not self._turns:
            return None
        refused = 0
        while True:
            org = self._turns[0]
            lane = self._lanes[org]
            if not self._is_in_turn:
                lane.deficit_tokens += self._quantum_tokens
                self._is_in_turn = True
            tokens = lane.items[0][0]
            if tokens <= lane.deficit_tokens:
                lane.deficit_tokens -= tokens
                return self._take_first(org, lane)
            self._turns.rotate(-1)
            self._is_in_turn = False
            refused += 1
            if refused % len(self._turns) == 0:
                self._skip_rounds()

    def drop_heads(self, is_over: Callable[[T], bool]) -> list[T]:
        """Take out what is over; each organization's queue is looked at from its oldest on, up to
        the first item that is not."""
        dropped: list[T] = []
        for org, lane in list(self._lanes.items()):
            while lane.items and is_over(lane.items[0][1]):
                dropped.append(self._take_first(org, lane))
        return dropped

    def _take_first(self, org: str, lane: _Lane[T]) -> T:
        _, item = lane.items.popleft()
        self._length -= 1
        if not lane.items:
            if self._turns[0] == org:
                self._is_in_turn = False
            del self._lanes[org]
            self._turns.remove(org)
        return item

    def _skip_rounds(self) -> None:
        """Nobody could be served in a whole round: give all of them the rounds that would be in vain."""
        lanes = self._lanes.values()
        lacking = min(lane.items[0][0] - lane.deficit_tokens for lane in lanes)
        rounds = max(0, -(-lacking // self._quantum_tokens) - 1)
        for lane in lanes:
            lane.deficit_tokens += rounds * self._quantum_tokens
