"""Which of many large requests goes first, and how long the others wait for it."""

from __future__ import annotations

from ingress.gatekeeper.scouts import SCOUTS_FOR_S, WELL_FOR_S, Scouts

WHO = ("key_a", "echo")


def test_the_first_goes_and_the_others_wait() -> None:
    """Each key and model has a scout of its own."""
    scouts = Scouts()

    assert [scouts.may_go(WHO, 10.0) for _ in range(3)] == [True, False, False]
    assert scouts.may_go(("key_b", "echo"), 10.0)


def test_they_wait_for_two_seconds_at_most() -> None:
    """A call that runs that long was admitted."""
    scouts = Scouts()
    scouts.may_go(WHO, 10.0)

    assert not scouts.may_go(WHO, 10.0 + SCOUTS_FOR_S - 0.01)
    assert all(scouts.may_go(WHO, 10.0 + SCOUTS_FOR_S) for _ in range(3))


def test_once_it_is_well_nobody_waits_for_a_while() -> None:
    """Then one of them looks again."""
    scouts = Scouts()
    scouts.may_go(WHO, 10.0)
    scouts.note(WHO, 10.1, is_spent=False)

    assert all(scouts.may_go(WHO, 10.1) for _ in range(3))
    assert all(scouts.may_go(WHO, 10.0 + WELL_FOR_S) for _ in range(3))
    assert [scouts.may_go(WHO, 10.2 + WELL_FOR_S) for _ in range(2)] == [True, False]


def test_after_a_final_verdict_the_next_one_is_a_scout() -> None:
    """It may be smaller, and fit."""
    scouts = Scouts()
    scouts.may_go(WHO, 10.0)
    scouts.note(WHO, 10.1, is_spent=True)

    assert [scouts.may_go(WHO, 10.2) for _ in range(2)] == [True, False]
