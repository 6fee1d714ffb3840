"""When an overload is over: by the p99 of each second after it."""

from __future__ import annotations

from math import inf

import pytest

from deploy.bench.connection import OK
from deploy.bench.recovery import p99_by_second, recovered_after_s
from deploy.bench.report import Sample


def test_each_second_has_the_p99_of_what_was_planned_in_it() -> None:
    """However late it was answered."""
    samples = [Sample(OK, 3.0, 0.2), Sample(OK, 0.1, 0.9), Sample(OK, 0.01, 1.0)]

    assert p99_by_second(samples) == [3_000, 10]


def test_a_second_with_a_failure_or_without_a_request_is_not_normal() -> None:
    """A quick error is no recovery."""
    samples = [Sample("http_503", 0.001, 0.0), Sample(OK, 0.01, 2.0)]

    assert p99_by_second(samples) == [inf, inf, 10]


@pytest.mark.parametrize(
    ("p99s", "seconds"),
    [([10, 12], 0), ([900, 500, 10], 2), ([900, 10, 500, 10], 3), ([10, 900], inf), ([], 0)],
)
def test_it_is_recovered_when_all_later_seconds_are_normal(
    p99s: list[float], seconds: float
) -> None:
    """A calm moment between is not yet the end."""
    assert recovered_after_s(p99s, normal_ms=12) == seconds
