"""The saturation curve: which rate is tried next, and where it breaks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FACTOR: Final = 1.4
MOST_STEPS: Final = 12
_P99_MS: Final = 500.0
_ERRORS: Final = 0.01
_KEPT_UP: Final = 0.95


@dataclass(frozen=True, slots=True)
class Point:
    """One rate that was offered, and what came of it."""

    offered_per_s: float
    achieved_per_s: float
    p50_ms: float
    p99_ms: float
    error_share: float

    @property
    def is_broken(self) -> bool:
        """Whether a user would call it overloaded: answers late, wrong, or fewer than were asked for."""
        return (
            self.p99_ms > _P99_MS
            or self.error_share > _ERRORS
            or self.achieved_per_s < _KEPT_UP * self.offered_per_s
        )


def next_rate_per_s(points: Sequence[Point], first_per_s: float) -> float | None:
    """The next rate to offer; ``None`` when it broke or was tried often enough."""
    if not points:
        return first_per_s
    if points[-1].is_broken or len(points) >= MOST_STEPS:
        return None
    return points[-1].offered_per_s * FACTOR


def sustained_per_s(points: Sequence[Point]) -> float:
    """The highest rate that did not break; 0 when the first one did."""
    return max((point.offered_per_s for point in points if not point.is_broken), default=0.0)
