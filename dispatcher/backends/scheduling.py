"""What waits for a slot, in whose turn, and when it is better told to come back later. Pure.

One ``Line`` per model (second attempts have their own): fair by organization, in tokens. A wait is
predicted from what stands before a request under that fairness and from what the line was served with
lately, so that an organization with a long queue is refused and one with a short queue is not. Times
are monotonic seconds.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from schemas.errors import RETRY_HINT_MAX_MS, RETRY_HINT_MIN_MS
from schemas.fair_queue import FairQueue

PREDICTED_MAX_S: Final = 2.0
WAIT_MAX_S: Final = 5.0
RETRY_UNKNOWN_MS: Final = 5_000
"""Said when nothing was served lately: about as long as a breaker stays open."""
_BACKGROUND_WEIGHT: Final = 4
"""Background work gets a quarter of a turn."""
_RATE_WINDOW_S: Final = 4.0
_RATE_MIN_S: Final = 0.5
"""A line must have been behind for so long before its rate says anything."""
_RATE_STEP_S: Final = 0.25
_SERVED_MIN: Final = 8
"""From fewer a rate is a guess, for which nobody who was let in is sent away."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """A request in a line; what it waits with is the shell's."""

    org: str
    tokens: int
    since_s: float
    until_s: float
    """Its deadline."""
    is_background: bool
    item: T
    is_over: bool = False
    """It left the line: served, refused or gone. Its place is skipped."""

    @property
    def lane(self) -> str:
        """In whose turn it is; background work has a turn of its own (no id holds a ``|``)."""
        return f"{self.org}|background" if self.is_background else self.org

    @property
    def cost(self) -> int:
        """What it takes of that turn, in tokens."""
        return max(1, self.tokens) * (_BACKGROUND_WEIGHT if self.is_background else 1)


@dataclass(slots=True)
class ServedRate:
    """What a line was served with while it was behind, in tokens."""

    behind_since_s: float
    requests: int = 0
    _steps: deque[tuple[float, int]] = field(default_factory=deque)

    def served(self, now_s: float, tokens: int) -> None:
        """A request left the line for its call."""
        self.requests += 1
        if self._steps and now_s - self._steps[-1][0] < _RATE_STEP_S:
            at_s, before = self._steps[-1]
            self._steps[-1] = at_s, before + tokens
        else:
            self._steps.append((now_s, tokens))

    def per_s(self, now_s: float) -> float | None:
        """Tokens a second; ``None`` when too little is known, or nothing was served for long."""
        while self._steps and self._steps[0][0] < now_s - _RATE_WINDOW_S:
            self._steps.popleft()
        seen_s = min(_RATE_WINDOW_S, now_s - self.behind_since_s)
        if seen_s < _RATE_MIN_S or not self._steps:
            return None
        return sum(tokens for _, tokens in self._steps) / seen_s


@dataclass(slots=True)
class Line(Generic[T]):
    """What waits for slots of one model."""

    rate: ServedRate
    _queue: FairQueue[Waiting[T]] = field(default_factory=FairQueue)
    _costs: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """What waits, by lane."""
    _length: int = 0

    def __len__(self) -> int:
        return self._length

    def push(self, waiting: Waiting[T]) -> None:
        """A request comes to wait."""
        self._queue.push(waiting.lane, waiting.cost, waiting)
        self._costs[waiting.lane] += waiting.cost
        self._length += 1

    def pop(self, now_s: float) -> Waiting[T] | None:
        """Whose turn it is; it leaves the line to be served."""
        while (waiting := self._queue.pop()) is not None:
            if not waiting.is_over:
                self.leave(waiting)
                self.rate.served(now_s, waiting.cost)
                return waiting
        return None

    def leave(self, waiting: Waiting[T]) -> None:
        """The request does not wait any more."""
        if waiting.is_over:
            return
        waiting.is_over = True
        self._length -= 1
        self._costs[waiting.lane] -= waiting.cost
        if not self._costs[waiting.lane]:
            del self._costs[waiting.lane]

    def take_out(self, is_due: Callable[[Waiting[T]], bool]) -> list[Waiting[T]]:
        """All that are due leave the line."""
        due = [waiting for waiting in self._queue if not waiting.is_over and is_due(waiting)]
        for waiting in due:
            self.leave(waiting)
        self._queue.drop_heads(lambda waiting: waiting.is_over)
        return due

    def predicted_wait_s(self, lane: str, now_s: float, cost: int = 0) -> float | None:
        """How long one more request of the lane would wait; ``None`` while no rate is known."""
        rate = self.rate.per_s(now_s)
        if rate is None:
            return None
        own = self._costs.get(lane, 0) + cost
        others = sum(min(own, waiting) for name, waiting in self._costs.items() if name != lane)
        return (own + others) / rate

    def take_out_hopeless(self, now_s: float) -> list[Waiting[T]]:
        """All that would wait for too long, now that the rate is known, leave the line: whoever came
        before it was, hears so at once and not at the end of the wait."""
        rate = self.rate.per_s(now_s)
        if rate is None or self.rate.requests < _SERVED_MIN:
            return []
        share = fair_share(self._costs.values(), rate * PREDICTED_MAX_S)
        ahead: defaultdict[str, int] = defaultdict(int)
        hopeless = []
        for waiting in self._queue:
            if waiting.is_over:
                continue
            if ahead[waiting.lane] > share and not waiting.is_background:
                hopeless.append(waiting)
            else:
                ahead[waiting.lane] += waiting.cost
        for waiting in hopeless:
            self.leave(waiting)
        return hopeless

    def must_refuse(self, waiting: Waiting[T], now_s: float) -> bool:
        """Whether it would wait for too long. An organization with nothing in the line may wait."""
        if waiting.is_background or not self._costs.get(waiting.lane):
            return False
        predicted_s = self.predicted_wait_s(waiting.lane, now_s)
        return predicted_s is not None and predicted_s > PREDICTED_MAX_S

    def retry_after_ms(self, waiting: Waiting[T], now_s: float) -> int:
        """When the request might be served if it came again: once what waits now is gone."""
        predicted_s = self.predicted_wait_s(waiting.lane, now_s, waiting.cost)
        if predicted_s is None:
            return RETRY_UNKNOWN_MS
        return max(RETRY_HINT_MIN_MS, min(RETRY_HINT_MAX_MS, round(predicted_s * 1000)))


def fair_share(costs: Iterable[int], capacity: float) -> float:
    """What each lane gets when a capacity is shared fairly: those that want less leave the rest.

    Max-min fairness; ``inf`` when there is enough for all.
    """
    wanted = sorted(costs)
    for index, cost in enumerate(wanted):
        share = capacity / (len(wanted) - index)
        if cost > share:
            return share
        capacity -= cost
    return math.inf
