"""Lines: whose turn it is, how long a wait will be, and who is told to come back later."""

from __future__ import annotations

import pytest

from dispatcher.backends.scheduling import (
    RETRY_UNKNOWN_MS,
    Line,
    ServedRate,
    fair_share,
)
from dispatcher.backends.scheduling import Waiting as _Waiting
from schemas.errors import RETRY_HINT_MAX_MS, RETRY_HINT_MIN_MS

Waiting = _Waiting[str]
_COST = 1_000


def _waiting(org: str, *, background: bool = False, since_s: float = 0.0) -> Waiting:
    return Waiting(org, _COST, since_s, 1e9, background, org)


def _line(**waiting: int) -> Line[str]:
    """A line that is behind since time 0, with so many requests of each organization."""
    line = Line[str](ServedRate(0.0))
    for org, count in waiting.items():
        for _ in range(count):
            line.push(_waiting(org))
    return line


def _served(line: Line[str], per_s: int, until_s: float = 4.0) -> None:
    """The line is served evenly and filled up again."""
    for step in range(round(per_s * until_s)):
        now_s = (step + 1) / per_s
        if (served := line.pop(now_s)) is not None:
            line.push(_waiting(served.org))


def test_a_loud_organization_is_told_to_come_back_and_a_quiet_one_is_not() -> None:
    """A hundred requests a second are served; the loud one has three hundred in front of it."""
    line = _line(loud=300)
    _served(line, per_s=100)

    assert line.must_refuse(_waiting("loud"), 4.0)
    assert not line.must_refuse(_waiting("quiet"), 4.0)
    line.push(_waiting("quiet"))
    assert not line.must_refuse(_waiting("quiet"), 4.0)


def test_a_line_that_drains_in_two_seconds_takes_more() -> None:
    """That is not long."""
    line = _line(loud=150)
    _served(line, per_s=100)

    assert not line.must_refuse(_waiting("loud"), 4.0)


def test_who_came_before_the_rate_was_known_is_refused_once_it_is() -> None:
    """What drains in two seconds stays; the rest of a burst hears at once that it is too much."""
    line = _line(loud=500, quiet=10)
    _served(line, per_s=100, until_s=1.0)

    hopeless = line.take_out_hopeless(1.0)

    assert {waiting.org for waiting in hopeless} == {"loud"}
    assert len(line) == pytest.approx(200, abs=2)
    assert line.take_out_hopeless(1.0) == []


def test_nobody_is_sent_away_for_a_rate_that_few_have_shown() -> None:
    """Seven served are a guess; the eighth makes it a rate."""
    line = _line(loud=60)
    _served(line, per_s=4, until_s=7 / 4)
    assert line.take_out_hopeless(1.75) == []

    _served(line, per_s=4, until_s=1 / 4)
    assert line.take_out_hopeless(2.0) != []


def test_nobody_is_hopeless_while_the_rate_is_unknown_or_the_work_is_background() -> None:
    """Too little was served to tell; background work waits to its deadline."""
    line = _line(loud=500)
    assert line.take_out_hopeless(0.1) == []

    jobs = Line[str](ServedRate(0.0))
    for _ in range(500):
        jobs.push(_waiting("loud", background=True))
    for _ in range(8):
        jobs.pop(0.6)
    assert jobs.take_out_hopeless(1.0) == []


@pytest.mark.parametrize(
    ("costs", "capacity", "share"),
    [
        ([], 10.0, float("inf")),
        ([4, 6], 10.0, float("inf")),
        ([100, 2], 10.0, 8.0),
        ([100, 100], 10.0, 5.0),
        ([1, 50, 100], 31.0, 15.0),
    ],
)
def test_a_capacity_is_shared_fairly(costs: list[int], capacity: float, share: float) -> None:
    """Who wants less than a share leaves the rest to the others."""
    assert fair_share(costs, capacity) == share


def test_background_work_is_never_refused() -> None:
    """It has time until its deadline."""
    line = _line(loud=1_000)
    _served(line, per_s=100)
    line.push(_waiting("loud", background=True))

    assert not line.must_refuse(_waiting("loud", background=True), 4.0)


@pytest.mark.parametrize("now_s", [0.3, 30.0], ids=["just begun", "nothing served lately"])
def test_without_a_rate_nothing_is_predicted(now_s: float) -> None:
    """A backend that hangs says nothing of how fast it is."""
    line = _line(loud=1_000)
    line.pop(0.2)

    assert not line.must_refuse(_waiting("loud"), now_s)
    assert line.retry_after_ms(_waiting("loud"), now_s) == RETRY_UNKNOWN_MS


def test_the_hint_is_the_time_in_which_the_line_drains() -> None:
    """Honest: five hundred before it, a hundred a second."""
    line = _line(loud=500)
    _served(line, per_s=100)

    assert line.retry_after_ms(_waiting("loud"), 4.0) == pytest.approx(5_000, rel=0.05)


@pytest.mark.parametrize(
    ("count", "hint_ms"),
    [(1, RETRY_HINT_MIN_MS), (10_000, RETRY_HINT_MAX_MS)],
    ids=["soon", "late"],
)
def test_the_hint_has_bounds(count: int, hint_ms: int) -> None:
    """A tenth of a second, and half a minute."""
    line = _line(loud=count)
    _served(line, per_s=100)

    assert line.retry_after_ms(_waiting("loud"), 4.0) == hint_ms


def test_organizations_are_served_in_turn() -> None:
    """Whatever the length of their queues."""
    line = _line(loud=100, quiet=10)
    served = [waiting.org for _ in range(20) if (waiting := line.pop(1.0))]

    assert 8 <= served.count("quiet") <= 10


def test_background_work_gets_a_smaller_turn_beside_calls() -> None:
    """About a quarter of a call's."""
    line = _line(acme=100)
    for _ in range(100):
        line.push(_waiting("acme", background=True))
    served = [waiting for _ in range(50) if (waiting := line.pop(1.0))]

    assert 5 <= sum(waiting.is_background for waiting in served) <= 15


def test_whoever_leaves_is_skipped_and_counts_no_longer() -> None:
    """Also from the middle of the queue."""
    line = _line(acme=3)
    middle = _waiting("acme")
    line.push(middle)
    line.push(_waiting("acme"))
    line.leave(middle)
    line.leave(middle)

    assert len(line) == 4
    served = [waiting for _ in range(9) if (waiting := line.pop(1.0))]
    assert len(served) == 4
    assert middle not in served
    assert len(line) == 0


def test_all_that_are_due_leave_at_once() -> None:
    """And nobody else."""
    line = _line()
    for second in range(10):
        line.push(_waiting("acme", since_s=second))
    gone = line.take_out(lambda waiting: waiting.since_s < 4)

    assert [waiting.since_s for waiting in gone] == [0, 1, 2, 3]
    assert len(line) == 6
