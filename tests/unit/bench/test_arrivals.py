"""Arrivals: planned beforehand, repeatable, and as many as the rate says."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, pstdev

import pytest

from deploy.bench.arrivals import CONSTANT, KINDS, POISSON, lateness_s, planned_s


def test_constant_arrivals_are_evenly_apart() -> None:
    """The first leaves at once, and none at the end."""
    assert planned_s(CONSTANT, 50, 0.1, seed=1) == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])


def test_poisson_arrivals_have_the_rate_and_gaps_that_spread_as_much_as_they_are_long() -> None:
    """Of exponential gaps the deviation equals the mean."""
    times = planned_s(POISSON, 100, 200, seed=3)
    gaps = [after - before for before, after in pairwise(times)]

    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert fmean(gaps) == pytest.approx(0.01, rel=0.03)
    assert pstdev(gaps) == pytest.approx(0.01, rel=0.05)
    assert all(0 <= time < 200 for time in times)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_plans(kind: str) -> None:
    """A run can be repeated."""
    assert planned_s(kind, 20, 5, seed=7) == planned_s(kind, 20, 5, seed=7)
    assert list(planned_s(kind, 20, 5, seed=7)) == sorted(planned_s(kind, 20, 5, seed=7))


def test_other_seeds_give_other_poisson_plans() -> None:
    """Or several runs would be one."""
    assert planned_s(POISSON, 20, 5, seed=7) != planned_s(POISSON, 20, 5, seed=8)


def test_lateness_counts_from_the_plan_and_is_never_negative() -> None:
    """A request that left early by a rounding was not late."""
    assert lateness_s([1.0, 2.0], [0.999, 2.5]) == [0.0, 0.5]
