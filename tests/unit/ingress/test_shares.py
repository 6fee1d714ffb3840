"""Who finds room at ingress."""

from __future__ import annotations

from ingress.gatekeeper.local_limits import Shares


def _enter(shares: Shares, org: str, number: int) -> int:
    """How many of ``number`` requests of the organization found room."""
    return sum(shares.enter(org) is None for _ in range(number))


def test_an_organization_has_no_more_than_its_share() -> None:
    """The refusal names the limit, and when a place may be free."""
    shares = Shares(all_max=100, org_max=25)

    assert _enter(shares, "a", 30) == 25
    refusal = shares.enter("a")

    assert refusal is not None
    assert refusal.denial is not None
    assert (refusal.status, refusal.denial.limit_id) == (429, "org:in_flight")
    assert (refusal.denial.current_usage, refusal.denial.limit) == (25, 25)
    assert refusal.wait_ms == 1_000


def test_others_are_not_concerned() -> None:
    """They have shares of their own."""
    shares = Shares(all_max=100, org_max=25)
    _enter(shares, "a", 30)

    assert _enter(shares, "b", 25) == 25


def test_near_the_bound_of_all_whoever_has_most_is_refused_first() -> None:
    """Ten that take all they can get leave room for an eleventh."""
    shares = Shares(all_max=100, org_max=25)
    for _ in range(100):
        for org in "abcdefghij":
            shares.enter(org)

    assert shares.requests < 100
    assert shares.enter("quiet") is None
    assert shares.enter("a") is not None


def test_the_bound_of_all_is_the_last_one() -> None:
    """503, because it is nobody's own fault."""
    shares = Shares(all_max=2, org_max=1)
    assert shares.enter("a") is None
    assert shares.enter("b") is None

    refusal = shares.enter("c")

    assert refusal is not None
    assert (refusal.status, refusal.code) == (503, "server_is_overloaded")
    assert shares.bounds_reached().keys() == {"inflight_max", "org_inflight_max"}


def test_a_place_is_free_again_once_its_request_has_ended() -> None:
    """And its duration makes the hint honest."""
    shares = Shares(all_max=100, org_max=1)
    for _ in range(60):
        shares.enter("a")
        shares.leave("a", held_ms=5_000)
    shares.enter("a")

    refusal = shares.enter("a")

    assert refusal is not None
    assert refusal.wait_ms is not None
    assert 4_900 <= refusal.wait_ms <= 5_000


def test_a_hint_is_bounded() -> None:
    """Nobody is told to wait for ten minutes."""
    shares = Shares(all_max=100, org_max=1)
    for _ in range(100):
        shares.enter("a")
        shares.leave("a", held_ms=600_000)
    shares.enter("a")

    refusal = shares.enter("a")

    assert refusal is not None
    assert refusal.wait_ms == 30_000


def test_nothing_is_reached_while_there_is_room() -> None:
    """Readiness has nothing to name."""
    shares = Shares(all_max=100, org_max=2)
    shares.enter("a")

    assert shares.bounds_reached() == {}
