"""The saturation curve: rates grow until one breaks, and the last that held is what is sustained."""

from __future__ import annotations

import pytest

from deploy.bench.curve import MOST_STEPS, Point, next_rate_per_s, sustained_per_s


def _point(
    offered: float, achieved: float | None = None, p99: float = 10.0, errors: float = 0.0
) -> Point:
    return Point(offered, offered if achieved is None else achieved, 5.0, p99, errors)


def test_rates_grow_by_a_constant_factor() -> None:
    """From the first that is wanted."""
    assert next_rate_per_s([], 100) == 100
    assert next_rate_per_s([_point(100)], 100) == pytest.approx(140)


@pytest.mark.parametrize(
    "broken", [_point(196, p99=501), _point(196, errors=0.02), _point(196, achieved=180)]
)
def test_late_wrong_and_missing_answers_break_it(broken: Point) -> None:
    """Nothing is offered after that, and the rate before is sustained."""
    points = [_point(140), broken]

    assert next_rate_per_s(points, 100) is None
    assert sustained_per_s(points) == 140


def test_the_steps_are_bounded() -> None:
    """Also for a gateway that never breaks."""
    assert next_rate_per_s([_point(100)] * MOST_STEPS, 100) is None


def test_nothing_is_sustained_when_the_first_rate_breaks() -> None:
    """Rather than a guess."""
    assert sustained_per_s([_point(100, p99=900)]) == 0
