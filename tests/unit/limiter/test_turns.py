"""Whose background request is asked for next."""

from __future__ import annotations

from limiter_worker.turns import Turns


def _lined_up(**counts: int) -> Turns[int]:
    turns: Turns[int] = Turns()
    for org, count in counts.items():
        for number in range(count):
            turns.push(org, 1_000, number)
    return turns


def _orgs(turns: Turns[int], now_s: float = 0.0, count: int = 256) -> list[str]:
    return [org for org, _, _ in turns.take(now_s, count)]


def test_each_organization_has_its_turn() -> None:
    """A quiet one is in the first batch however many of a loud one came before."""
    turns = _lined_up(loud=5_000, quiet=2)

    assert _orgs(turns, count=8).count("quiet") == 2


def test_an_organization_at_its_limit_is_asked_for_later_and_in_order() -> None:
    """Those that must wait stand first again."""
    turns = _lined_up(acme=3)
    taken = turns.take(0.0, 3)
    turns.settle("acme", 1, [(size, item) for _, size, item in taken[1:]], not_before_s=0.7)

    assert turns.take(0.6, 3) == []
    assert turns.next_s() == 0.7
    assert [item for _, _, item in turns.take(0.7, 3)] == [1, 2]


def test_thousands_that_wait_ask_for_few() -> None:
    """About twice as many as went through lately; none went through: a handful."""
    turns = _lined_up(acme=5_000)
    first = turns.take(0.0, 256)
    turns.settle("acme", 0, [(size, item) for _, size, item in first], 1.0)
    assert len(turns.take(1.0, 256)) == 4
    turns.settle("acme", 4, [], 0.0)
    assert len(turns.take(1.0, 256)) == 8


def test_whoever_meets_no_limit_is_asked_for_by_whole_batches() -> None:
    """So that a long line is worked off at full speed."""
    turns = _lined_up(acme=5_000)
    asked = []
    for _ in range(8):
        asked.append(len(turns.take(0.0, 256)))
        turns.settle("acme", asked[-1], [], 0.0)

    assert asked == [16, 32, 64, 128, 256, 256, 256, 256]


def test_what_is_over_is_taken_wherever_it_stands() -> None:
    """Also of an organization that must wait."""
    turns = _lined_up(acme=10)
    turns.settle("acme", 0, [(1, 99)], not_before_s=5.0)

    assert [item for _, _, item in turns.take_where(lambda item: item in (3, 7))] == [3, 7]
    assert len(turns) == 9


def test_nothing_is_lost() -> None:
    """Everything that was pushed is taken once."""
    turns = _lined_up(a=300, b=40, c=1)
    seen: list[tuple[str, int]] = []
    while taken := turns.take(0.0, 64):
        seen += [(org, item) for org, _, item in taken]
        for org in {org for org, _, _ in taken}:
            turns.settle(org, 1, [], 0.0)

    assert len(seen) == len(set(seen)) == 341
    assert (len(turns), turns.next_s()) == (0, None)
