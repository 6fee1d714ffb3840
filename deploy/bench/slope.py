"""How fast something grows: the slope of the straight line nearest to its readings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

HOUR_S: Final = 3_600.0


def per_hour(at_s: Sequence[float], values: Sequence[float]) -> float:
    """By how much it grows in an hour, by least squares; 0 for fewer than two readings."""
    count = len(at_s)
    if count < 2:  # noqa: PLR2004 - of one point there is no line
        return 0.0
    middle_s, middle = sum(at_s) / count, sum(values) / count
    spread = sum((at - middle_s) ** 2 for at in at_s)
    together = sum(
        (at - middle_s) * (value - middle) for at, value in zip(at_s, values, strict=True)
    )
    return together / spread * HOUR_S if spread else 0.0


def percent_per_hour(at_s: Sequence[float], values: Sequence[float]) -> float:
    """The same against the mean of the readings; 0 where all are 0."""
    mean = sum(values) / len(values) if values else 0.0
    return 100 * per_hour(at_s, values) / mean if mean else 0.0
