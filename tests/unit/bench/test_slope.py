"""Slopes: what grows is told, what moves about its place is not."""

from __future__ import annotations

import pytest

from deploy.bench.slope import per_hour, percent_per_hour


def test_what_grows_steadily_grows_by_so_much_an_hour() -> None:
    """A record a second."""
    assert per_hour([0, 10, 20, 30], [5, 15, 25, 35]) == pytest.approx(3_600)


def test_what_stands_still_or_swings_has_hardly_a_slope() -> None:
    """Up and down about the same place."""
    assert per_hour([0, 1, 2, 3], [7, 7, 7, 7]) == 0
    assert per_hour([0, 1, 2, 3, 4], [5, 9, 5, 9, 5]) == pytest.approx(0)


def test_a_share_is_of_the_mean() -> None:
    """100 to 102 in an hour."""
    assert percent_per_hour([0, 3_600], [100, 102]) == pytest.approx(1.98, abs=0.01)


def test_of_one_reading_or_none_nothing_is_told() -> None:
    """And of zeroes no share."""
    assert (per_hour([], []), per_hour([1], [9]), per_hour([1, 1], [1, 2])) == (0, 0, 0)
    assert percent_per_hour([0, 1], [0, 0]) == 0
