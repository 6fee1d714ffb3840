"""The estimate of another clock: exact to half a round trip, never backwards, a step where it jumped."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from schemas.clock_estimate import STEP_MS, Estimate, Reading

_AHEAD_MS = 1_700_000_000_000.0
"""What the other clock shows when the own monotonic one shows 0."""


def reading(
    at_s: float, ahead_ms: float = 0.0, *, out_s: float = 0.001, back_s: float = 0.001
) -> Reading:
    """The other clock was read at ``at_s``; it is ``ahead_ms`` ahead of where it began."""
    return Reading(at_s - out_s, at_s + back_s, _AHEAD_MS + at_s * 1_000 + ahead_ms)


def off_ms(estimate: Estimate, at_s: float, ahead_ms: float = 0.0) -> float:
    """How far the estimate is from the truth."""
    return estimate.at_ms(at_s) - (_AHEAD_MS + at_s * 1_000 + ahead_ms)


@pytest.mark.parametrize(("out_s", "back_s"), [(0.05, 0.0), (0.0, 0.05), (0.02, 0.03)])
def test_a_first_reading_is_off_by_half_its_round_trip_at_most(out_s: float, back_s: float) -> None:
    """However the way there and back share it; and it knows that bound."""
    estimate = Estimate.of(reading(10, out_s=out_s, back_s=back_s))

    assert abs(off_ms(estimate, 20)) <= 25.001
    assert estimate.error_at_ms(10.05) == pytest.approx(25, abs=0.1)


def test_a_sharper_reading_replaces_a_blunt_one() -> None:
    """Whatever the blunt one was off is gone moments later."""
    estimate = Estimate.of(reading(10, out_s=0.4, back_s=0.0)).corrected(reading(12))

    assert abs(off_ms(estimate, 14)) < 0.001
    assert estimate.error_at_ms(14) < 3


def test_a_blunt_reading_changes_nothing_that_is_known_better() -> None:
    """A stalled event loop makes such readings."""
    estimate = Estimate.of(reading(10))

    assert estimate.corrected(reading(12, out_s=0.0, back_s=0.8)) == estimate


def test_a_gap_below_a_second_is_closed_gradually_and_never_backwards() -> None:
    """The other clock was set back by 900 ms."""
    estimate = Estimate.of(reading(10)).corrected(reading(12, -900))
    shown = [estimate.at_ms(12.001 + step / 100) for step in range(1_000)]

    assert all(later > earlier for earlier, later in pairwise(shown))
    assert estimate.error_at_ms(12.002) > 890
    assert abs(off_ms(estimate, 17, -900)) < 0.001
    assert estimate.error_at_ms(17) < 5


@pytest.mark.parametrize("jump_ms", [-600_000, -STEP_MS - 5, STEP_MS + 5, 600_000])
def test_a_gap_of_a_second_or_more_is_a_step(jump_ms: float) -> None:
    """Waiting for it to close would serve minutes by the wrong time."""
    estimate = Estimate.of(reading(10)).corrected(reading(12, jump_ms))

    assert abs(off_ms(estimate, 12.001, jump_ms)) < 1.001


def test_without_readings_it_runs_on_and_knows_less_and_less() -> None:
    """After half an hour it may be a second off, which is no longer good enough."""
    estimate = Estimate.of(reading(0))

    assert off_ms(estimate, 900) == pytest.approx(0, abs=1.001)
    assert estimate.error_at_ms(900) < 1_000 < estimate.error_at_ms(2_100)


@pytest.mark.parametrize("seed", range(20))
def test_under_drift_and_uneven_round_trips_its_bound_holds(seed: int) -> None:
    """A reading every two seconds for an hour, from a clock that gains 0.1 ms a second."""
    rng = random.Random(seed)
    estimate, shown_ms = Estimate.of(reading(0)), 0.0
    for step in range(1, 1_800):
        at_s = 2.0 * step
        trip = {"out_s": rng.expovariate(200), "back_s": rng.expovariate(200)}
        estimate = estimate.corrected(reading(at_s, 0.1 * at_s, **trip))
        now_s = at_s + trip["back_s"] + rng.random()
        assert abs(off_ms(estimate, now_s, 0.1 * now_s)) <= estimate.error_at_ms(now_s)
        assert estimate.error_at_ms(now_s) < 25
        assert estimate.at_ms(now_s) > shown_ms
        shown_ms = estimate.at_ms(now_s)
