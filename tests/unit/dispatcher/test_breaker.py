"""The circuit breaker: when it opens, and that only one successful trial closes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.backends.breaker import OPEN_S, Breaker, CallEnd

_ENDS: st.SearchStrategy[CallEnd] = st.sampled_from(
    ["succeeded", "failed", "unreachable", "undecided"]
)


def _after(ends: list[CallEnd], *, spacing_s: float = 0.1) -> tuple[Breaker, float]:
    """The breaker after these calls, one after the other, and the time of the last."""
    breaker, now_s = Breaker(), 1_000.0
    for end in ends:
        now_s += spacing_s
        breaker = breaker.ended(now_s, end, is_trial=False)
    return breaker, now_s


def _opened() -> tuple[Breaker, float]:
    """A breaker that has just opened, and when."""
    return _after(["unreachable"] * 5)


@pytest.mark.parametrize(
    ("ends", "opens"),
    [
        (["failed"] * 19, False),
        (["failed"] * 20, True),
        (["failed", "succeeded"] * 10, True),
        (["succeeded", "failed", "succeeded"] * 10, False),
        (["unreachable"] * 4, False),
        (["unreachable"] * 5, True),
        (["unreachable", "succeeded"] * 5, False),
        (["undecided"] * 50, False),
    ],
    ids=[
        "too few to judge",
        "all of twenty",
        "half of twenty",
        "a third",
        "four connections",
        "five connections",
        "never five in a row",
        "ended by clients",
    ],
)
def test_it_opens_at_half_of_twenty_calls_or_five_connections(
    ends: list[CallEnd], opens: bool
) -> None:
    """Whichever comes first."""
    breaker, now_s = _after(ends)

    assert (breaker.state(now_s) == "open") == opens
    assert breaker.admits(now_s) != opens


def test_what_is_older_than_ten_seconds_does_not_count() -> None:
    """Twenty failures over forty seconds are few."""
    breaker, now_s = _after(["failed"] * 20, spacing_s=2.0)

    assert breaker.state(now_s) == "closed"
    assert len(breaker.window) <= 10


def test_after_five_seconds_exactly_one_call_is_let_through() -> None:
    """It is the trial; the next one has to wait for its end."""
    breaker, opened_s = _opened()

    assert not breaker.admits(opened_s + OPEN_S - 0.01)
    assert breaker.admits(opened_s + OPEN_S)
    on_trial, is_trial = breaker.begun(opened_s + OPEN_S)
    assert is_trial
    assert not on_trial.admits(opened_s + OPEN_S)


@pytest.mark.parametrize(
    ("end", "state", "admits"),
    [
        ("succeeded", "closed", True),
        ("failed", "open", False),
        ("unreachable", "open", False),
        ("undecided", "half_open", True),
    ],
)
def test_the_trial_decides(end: CallEnd, state: str, admits: bool) -> None:
    """A trial that says nothing makes room for another one."""
    breaker, opened_s = _opened()
    now_s = opened_s + OPEN_S
    breaker = breaker.begun(now_s)[0].ended(now_s, end, is_trial=True)

    assert (breaker.state(now_s), breaker.admits(now_s)) == (state, admits)


@given(st.lists(_ENDS, max_size=40))
def test_late_ends_of_earlier_calls_do_not_close_it(ends: list[CallEnd]) -> None:
    """Only the trial does."""
    breaker, opened_s = _opened()
    for end in ends:
        breaker = breaker.ended(opened_s + 1.0, end, is_trial=False)

    assert breaker.state(opened_s + 1.0) == "open"


@given(st.lists(_ENDS, max_size=60))
def test_a_closed_breaker_calls_nothing_a_trial(ends: list[CallEnd]) -> None:
    """And an open one never admits."""
    breaker, now_s = _after(ends)

    assert breaker.admits(now_s) == (breaker.state(now_s) == "closed")
    assert not breaker.begun(now_s)[1]


def _hung(calls: int) -> tuple[Breaker, float]:
    """So many calls hang, one after the other."""
    breaker, now_s = Breaker(), 1_000.0
    for _ in range(calls):
        now_s += 0.1
        breaker = breaker.hung(now_s, is_trial=False)
    return breaker, now_s


@pytest.mark.parametrize(("calls", "state"), [(19, "closed"), (20, "open")])
def test_calls_that_hang_count_as_failed_while_they_hang(calls: int, state: str) -> None:
    """Nobody has to wait for their end."""
    breaker, now_s = _hung(calls)

    assert breaker.state(now_s) == state


def test_a_call_that_hung_and_succeeded_is_no_failure() -> None:
    """Nineteen hang and come back: what counts is that they worked."""
    breaker, now_s = _hung(19)
    for _ in range(19):
        breaker = breaker.woke()
    breaker = breaker.hung(now_s, is_trial=False)

    assert sum(second.failures for second in breaker.window) == 1
    assert breaker.state(now_s) == "closed"


def test_only_what_silence_opened_is_closed_by_a_late_success() -> None:
    """Failures were failures."""
    silent, now_s = _hung(20)
    failing, later_s = _after(["failed"] * 20)

    assert silent.woke().state(now_s) == "closed"
    assert failing.woke().state(later_s) == "open"
