"""What is a difference, what may be accounting's lag, and of what nothing can be said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingress.admin.finance.explain import Explanation
from ingress.admin.finance.verdicts import Progress, ShardFindings, is_lag, verdict_of
from ingress.admin.finance.verify import Difference

USAGE = Difference("acme", "u:2026-11-26T07", "requests", 9, 8)
SETTLED = Difference("acme", "b:org", "settled", 9, 8)
FOUND = ShardFindings(
    shard=3,
    is_ready=True,
    is_complete=True,
    why="",
    organizations=2,
    differences=(),
    lagging=0,
    unjudged=0,
)


@pytest.mark.parametrize(("processed", "lags"), [(41, True), (42, False)])
def test_usage_lags_while_accounting_is_not_done_with_what_it_booked(
    processed: int, lags: bool
) -> None:
    """Lines are written between the booking of an outcome, here 41, and being done with it."""
    assert is_lag(USAGE, 41, Progress(end=99, processed=processed)) is lags


@pytest.mark.parametrize(("processed", "lags"), [(41, True), (42, False)])
def test_what_is_settled_lags_while_outcomes_of_before_wait(processed: int, lags: bool) -> None:
    """An attempt whose owner vanished may be known to the log alone."""
    assert is_lag(SETTLED, 99, Progress(end=42, processed=processed)) is lags


@pytest.mark.parametrize("field", ["reserved", "spare", "over", "late"])
def test_no_lag_changes_what_was_read_at_one_instant(field: str) -> None:
    """Holds are compared with holds, and what is over or late is counted in one step with its total."""
    assert not is_lag(replace(SETTLED, field=field), 0, Progress(end=99, processed=0))


def test_a_shard_that_is_closed_or_being_rebuilt_differs_in_nothing() -> None:
    """It is told as such: its tables are not there to be compared."""
    closed = replace(FOUND, is_ready=False, why="restarted", differences=(SETTLED,))
    incomplete = replace(FOUND, is_complete=False, differences=(SETTLED,))

    assert [verdict_of(each, {}).state for each in (closed, incomplete)] == ["closed", "incomplete"]
    assert verdict_of(closed, {}).why == "restarted"
    assert verdict_of(closed, {}).difference == 0


def test_a_shard_is_equal_only_if_everything_was_compared() -> None:
    """A lag, or more under way than can be read at once, leaves it open."""
    assert verdict_of(FOUND, {}).state == "equal"
    assert verdict_of(replace(FOUND, lagging=1), {}).state == "behind"
    assert verdict_of(replace(FOUND, unjudged=1), {}).state == "behind"
    assert verdict_of(replace(FOUND, lagging=1, differences=(SETTLED,)), {}).state == "differs"


def test_a_difference_comes_with_its_explanation() -> None:
    """The largest first; differences of opposite sign do not cancel."""
    large = Difference("acme", "b:key", "settled", 0, 5)
    found = replace(FOUND, differences=(SETTLED, large))

    verdict = verdict_of(found, {large: Explanation("does not fit", ("r1",), 1)})

    assert verdict.difference == 6
    assert [each["what"] for each in verdict.differences] == ["b:key", "b:org"]
    assert verdict.requests == ("r1",)
