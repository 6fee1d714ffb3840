"""Calendar periods in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.periods import Period, PeriodKind, period_at

_FROM_2000_TO_2100_MS = st.integers(946_684_800_000, 4_102_444_800_000)
_CALENDAR: list[PeriodKind] = ["day", "month"]


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@given(st.sampled_from(_CALENDAR), _FROM_2000_TO_2100_MS)
def test_a_period_contains_the_time_it_was_asked_for(kind: PeriodKind, now_ms: int) -> None:
    """Start included, end excluded; every time inside gives the same period."""
    period = period_at(kind, now_ms)

    assert period.end_ms is not None
    assert period.start_ms <= now_ms < period.end_ms
    assert period_at(kind, period.start_ms) == period_at(kind, period.end_ms - 1) == period


@given(st.sampled_from(_CALENDAR), _FROM_2000_TO_2100_MS)
def test_periods_abut(kind: PeriodKind, now_ms: int) -> None:
    """The next one starts where this one ends, under a later name: no gap, no overlap."""
    period = period_at(kind, now_ms)
    assert period.end_ms is not None
    following = period_at(kind, period.end_ms)

    assert following.start_ms == period.end_ms
    assert following.id > period.id


@pytest.mark.parametrize(
    ("kind", "now", "period"),
    [
        ("day", "2024-02-29T23:59:59.999", ("2024-02-29", "2024-02-29", "2024-03-01")),
        ("day", "2024-03-01T00:00:00.000", ("2024-03-01", "2024-03-01", "2024-03-02")),
        ("month", "2023-02-28T12:00:00", ("2023-02", "2023-02-01", "2023-03-01")),
        ("month", "2024-12-31T23:59:59.999", ("2024-12", "2024-12-01", "2025-01-01")),
        ("month", "2024-01-01T00:00:00", ("2024-01", "2024-01-01", "2024-02-01")),
    ],
    ids=["leap day", "midnight", "february", "end of the year", "start of the year"],
)
def test_bounds_are_those_of_the_calendar(
    kind: PeriodKind, now: str, period: tuple[str, str, str]
) -> None:
    """Name, start and end in UTC."""
    name, start, end = period

    assert period_at(kind, _ms(now)) == Period(name, _ms(start), _ms(end))


def test_the_total_never_ends() -> None:
    """One period for all time."""
    assert period_at("total", 0) == period_at("total", 2**45) == Period("total", 0, None)
