"""Calendar periods in UTC: their ids and bounds. Pure."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

_DAY_MS = 86_400_000

PeriodKind = Literal["day", "month", "total"]


@dataclass(frozen=True, slots=True)
class Period:
    """A period: its id in balance keys, and [start_ms, end_ms) in Unix milliseconds."""

    id: str
    start_ms: int
    end_ms: int | None
    """``None`` for the period that never ends."""


def period_at(kind: PeriodKind, now_ms: int) -> Period:
    """The period of that kind that contains ``now_ms``."""
    if kind == "total":
        return Period("total", 0, None)
    return _period_of_day(kind, now_ms // _DAY_MS)


@functools.lru_cache(maxsize=64)
def _period_of_day(kind: PeriodKind, days: int) -> Period:
    """The period that contains the whole UTC day, given as days since 1970."""
    midnight = datetime.fromtimestamp(days * _DAY_MS / 1000, UTC)
    if kind == "day":
        return _period(midnight.strftime("%Y-%m-%d"), midnight, midnight + timedelta(days=1))
    first = midnight.replace(day=1)
    next_first = (first + timedelta(days=32)).replace(day=1)
    return _period(first.strftime("%Y-%m"), first, next_first)


def _period(name: str, start: datetime, end: datetime) -> Period:
    return Period(name, int(start.timestamp()) * 1000, int(end.timestamp()) * 1000)
