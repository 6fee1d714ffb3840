"""What a clock elsewhere shows now, told from readings of it and the own monotonic clock. Pure.

A reading was taken between two monotonic moments, so it is known to half of the time between them. An
estimate goes on by itself at the monotonic clock's pace and is corrected by readings: below a second
gradually, so that it never runs backwards; from a second on at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

STEP_MS: Final = 1_000.0
"""A gap from which on an estimate is set instead of slewed."""
APPEND_MARGIN_MS: Final = 2_000
"""What append times are compared with, corrected: brokers of one cluster differ, too."""
_SLEW: Final = 0.2
"""Milliseconds of correction per millisecond; below 1, or time would run backwards."""
_DRIFT_MS_PER_S: Final = 0.5
"""How much two clocks may come apart in a second; machines' crystals keep to a fifth of it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The other clock showed ``at_ms`` between two moments of the own monotonic one."""

    before_s: float
    after_s: float
    at_ms: float

    @property
    def error_ms(self) -> float:
        """How far it may be off the middle."""
        return (self.after_s - self.before_s) * 500

    @property
    def middle_s(self) -> float:
        """The moment for which it is taken."""
        return (self.before_s + self.after_s) / 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """The other clock as a function of the own monotonic one."""

    since_s: float
    since_ms: float
    """What it is taken to have shown at ``since_s``."""
    due_ms: float
    """What is still to be added from then on, gradually."""
    error_ms: float
    """How far its course was off at most when it was last confirmed."""
    confirmed_s: float

    @classmethod
    def of(cls, reading: Reading) -> Estimate:
        """The first estimate."""
        since_ms = reading.at_ms + reading.error_ms
        return cls(reading.after_s, since_ms, 0.0, reading.error_ms, reading.after_s)

    def at_ms(self, now_s: float) -> float:
        """What it shows now."""
        elapsed_ms = (now_s - self.since_s) * 1_000
        most_ms = _SLEW * elapsed_ms
        return self.since_ms + elapsed_ms + max(-most_ms, min(most_ms, self.due_ms))

    def error_at_ms(self, now_s: float) -> float:
        """How far that may be off: what the readings left open, drift since, and what is still due."""
        left_ms = abs(self._course_ms(now_s) - self.at_ms(now_s))
        return self._course_error_ms(now_s) + left_ms

    def corrected(self, reading: Reading) -> Estimate:
        """The estimate after a reading; one that says nothing better changes nothing."""
        gap_ms = reading.at_ms - self._course_ms(reading.middle_s)
        known_ms = self._course_error_ms(reading.after_s)
        if abs(gap_ms) <= reading.error_ms + known_ms:
            if reading.error_ms >= known_ms:
                return self
            if abs(gap_ms) <= reading.error_ms:
                error_ms = min(known_ms, abs(gap_ms) + reading.error_ms)
                return replace(self, error_ms=error_ms, confirmed_s=reading.after_s)
        fresh = Estimate.of(reading)
        if abs(gap_ms) >= STEP_MS:
            return fresh
        shown_ms = self.at_ms(reading.after_s)
        return replace(fresh, since_ms=shown_ms, due_ms=fresh.since_ms - shown_ms)

    def _course_ms(self, now_s: float) -> float:
        """What it shows once nothing is due any more."""
        return self.since_ms + (now_s - self.since_s) * 1_000 + self.due_ms

    def _course_error_ms(self, now_s: float) -> float:
        return self.error_ms + _DRIFT_MS_PER_S * max(0.0, now_s - self.confirmed_s)
