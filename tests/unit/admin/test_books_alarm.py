"""When a difference between ledger and log is an alarm, what it names, and when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.admin.finance.books_alarm import BooksAlarm, ShardVerdict, State
from schemas.readiness import OK, missing

DIFFERS = ShardVerdict(
    shard=3,
    state="differs",
    difference=7,
    differences=({"org": "acme", "explanation": {"requests": ("r1", "r2")}},),
)


def alarm() -> BooksAlarm:
    return BooksAlarm(period_s=60.0, began_s=0.0)


def verdict(state: State, **more: Any) -> ShardVerdict:
    return ShardVerdict(shard=3, state=state, **more)


def test_a_difference_is_told_once_and_again_when_it_is_another() -> None:
    """Every minute the same line would be noise."""
    books = alarm()

    told = [len(books.take([DIFFERS], at_ms, 0.0)) for at_ms in (1_000, 2_000)]
    other = ShardVerdict(shard=3, state="differs", difference=8, differences=({"org": "b"},))

    assert told == [1, 0]
    assert [change.verdict for change in books.take([other], 3_000, 0.0)] == [other]
    assert books.since_ms == {3: 1_000}


def test_an_alarm_names_requests_and_no_organization_and_never_makes_the_process_unready() -> None:
    """The status page answers anybody, and configuration can be written without books."""
    books = alarm()
    books.take([DIFFERS], 1_000, 0.0)

    told = books.component(1.0)

    assert told == "degraded: shard 3 differs by 7 (requests r1, r2)"
    assert missing({"books": told}) == []


def test_an_alarm_is_over_when_the_books_are_equal() -> None:
    """And that is told."""
    books = alarm()
    books.take([DIFFERS], 1_000, 0.0)

    (change,) = books.take([verdict("equal")], 61_000, 0.0)

    assert not change.differs
    assert books.component(1.0) == OK
    assert books.equal_at_ms == {3: 61_000}


@pytest.mark.parametrize("state", ["behind", "closed", "incomplete"])
def test_what_is_not_compared_ends_no_alarm(state: State) -> None:
    """Nobody has seen that the books agree."""
    books = alarm()
    books.take([DIFFERS], 1_000, 0.0)

    assert books.take([verdict(state)], 61_000, 0.0) == []
    assert "shard 3 differs" in books.component(1.0)


def test_a_lag_is_no_alarm_and_a_closed_shard_is_told_as_such() -> None:
    """Neither is a difference."""
    books = alarm()

    assert books.take([verdict("behind")], 1_000, 0.0) == []
    assert books.component(1.0) == OK
    assert books.take([verdict("closed", why="restarted")], 61_000, 0.0) == []
    assert books.component(1.0) == "degraded: shard 3 is closed: restarted"


def test_books_that_nobody_verifies_are_told() -> None:
    """A verification that never ends must not look like one that agrees."""
    books = alarm()

    assert books.component(299.0) == OK
    assert books.component(301.0) == "degraded: not verified for 301 s"
    books.take([verdict("equal")], 1_000, 310.0)
    assert books.component(320.0) == OK


def test_operators_see_all_verdicts() -> None:
    """With what differs, since when, and when it was equal last."""
    books = alarm()
    books.take([verdict("equal")], 1_000, 0.0)
    books.take([DIFFERS], 2_000, 0.0)

    (shown,) = books.document()

    assert (shown["differs_since_ms"], shown["equal_at_ms"], shown["difference"]) == (
        2_000,
        1_000,
        7,
    )
    assert shown["differences"] == DIFFERS.differences
    assert books.amounts() == {3: 7}
