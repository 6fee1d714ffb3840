"""How many calls of one model a backend takes at once, learnt from the time to their first byte. Pure.

Gradient after Netflix's concurrency limits: when first bytes take longer than they did at their best, the
limit shrinks in that proportion, else it grows by its root. Compared is a percentile with the same
percentile of quieter windows, not single calls: long prompts beside short ones are no congestion. A limit
that is not half used says nothing and does not shrink. Times are monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

LIMIT_MIN: Final = 3
WINDOW_S: Final = 1.0
_PATIENCE_S: Final = 30.0
"""Windows with too few calls are extended up to this."""
_SAMPLES_MIN: Final = 10
_SAMPLES_MAX: Final = 2_000
_TOLERANCE: Final = 1.25
_SLACK_S: Final = 0.2
"""Differences below this are the noise of both event loops, not the backend's."""
_SHRINK_MAX: Final = 0.5
_REMEMBERED_S: Final = 300.0
"""How long a best time is believed in: a backend that is slower now for good is measured anew."""
_WINDOWS_MAX: Final = 300


@dataclass(slots=True)
class _Times:
    """Times to the first byte of one sort of call: streams begin early, whole answers come late."""

    samples: list[float] = field(default_factory=list)
    history: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_WINDOWS_MAX))
    """End of a window, and the time that nine in ten of its calls stayed below."""

    def usual_s(self) -> float | None:
        """What a call may well take; ``None`` when none has answered yet."""
        known = [p90_s for _, p90_s in self.history]
        return max(known or self.samples, default=None)

    def close(self, now_s: float) -> float:
        """End the window; how the best of the remembered windows compares with it, 1 at most."""
        ordered = sorted(self.samples)
        p90_s = ordered[math.ceil(0.9 * len(ordered)) - 1]
        self.samples = []
        self.history.append((now_s, p90_s))
        while self.history[0][0] < now_s - _REMEMBERED_S:
            self.history.popleft()
        best_s = min(p90_s for _, p90_s in self.history)
        gradient = (best_s * _TOLERANCE + _SLACK_S) / max(p90_s, 1e-6)
        return min(1.0, max(_SHRINK_MAX, gradient))


@dataclass(slots=True)
class AdaptiveLimit:
    """Told of first bytes and failures as they come, and of the time now and then."""

    _limit: float = math.inf
    _times: dict[bool, _Times] = field(default_factory=dict)
    """By whether the call asks for a stream."""
    _failures: int = 0
    _busiest: int = 0
    """Most calls under way at once in this window."""
    _since_s: float | None = None

    def slots(self, ceiling: int) -> int:
        """Calls that may be under way at once, where configuration allows ``ceiling``."""
        return int(min(ceiling, max(self._limit, LIMIT_MIN)))

    def began(self, in_flight: int) -> None:
        """A call began; so many are under way now."""
        self._busiest = max(self._busiest, in_flight)

    def answered(self, seconds: float, *, streams: bool) -> None:
        """The first byte of a call came after so long."""
        samples = self._times.setdefault(streams, _Times()).samples
        if len(samples) < _SAMPLES_MAX:
            samples.append(seconds)

    def failed(self) -> None:
        """A call failed, or is silent beyond all patience."""
        self._failures += 1

    def usual_s(self, *, streams: bool) -> float | None:
        """What the first byte of such a call may well take; ``None`` while none has come."""
        times = self._times.get(streams)
        return times.usual_s() if times else None

    def look(self, now_s: float, in_flight: int, ceiling: int) -> None:
        """Close the window if it is due and has enough to say."""
        if self._since_s is None:
            self._since_s = now_s
        age_s = now_s - self._since_s
        seen = self._failures + sum(len(times.samples) for times in self._times.values())
        if age_s < WINDOW_S or not seen or (seen < _SAMPLES_MIN and age_s < _PATIENCE_S):
            return
        gradient = self._gradient(now_s)
        current = self.slots(ceiling)
        is_used = 2 * self._busiest >= current
        if gradient == 1.0 or is_used:
            grown = current * gradient + math.sqrt(current)
            self._limit = max(LIMIT_MIN, min(float(ceiling), grown))
        self._failures, self._busiest, self._since_s = 0, in_flight, now_s

    def _gradient(self, now_s: float) -> float:
        """The mean over all calls of the window; a failure counts as the steepest."""
        total, weight = _SHRINK_MAX * self._failures, self._failures
        for times in self._times.values():
            if count := len(times.samples):
                total += times.close(now_s) * count
                weight += count
        return total / weight
