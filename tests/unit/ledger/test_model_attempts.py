"""What the ledger decides about attempts, told on the model: claims, fences, failover, ends."""

from __future__ import annotations

from schemas.ledger import answers
from schemas.ledger.documents import (
    Booking,
)
from tests.unit.ledger.model_scene import LEASE_MS, MONTH, Ledger, usd


def test_a_running_request_is_busy_for_others(ledger: Ledger) -> None:
    """They learn who runs it and how long to wait."""
    fence = ledger.running("r1")
    ledger.now_ms += 5_000
    busy = answers.Busy(ms=LEASE_MS - 5_000, owner="d1", fence=fence, attempt=1)
    assert ledger.start("r1", owner="d2") == busy


def test_a_successor_fences_its_predecessor_off(ledger: Ledger) -> None:
    """After a takeover the old owner can neither renew nor finish; its hold counts as spent."""
    old = ledger.running("r1", usd(30))
    ledger.now_ms += LEASE_MS
    claimed = ledger.start("r1", (usd(20),), owner="d2")
    booked = (Booking(key=MONTH, unit="nano_usd", amount=30),)
    unknown = answers.GivenUp(attempt=1, verdict="UNKNOWN", fence=old, owner="d1", booked=booked)
    assert claimed == answers.Fence(fence=old + 1, attempt=2, unknown=unknown)
    assert ledger.renew("r1", old) == answers.Stale()
    assert ledger.finish("r1", old, 1) == answers.Stale(written_off=(1,))
    assert ledger.month() == {"settled": 30, "reserved": 20}


def test_no_second_attempt_after_content_was_streamed(ledger: Ledger) -> None:
    """A client never sees two answers: neither a successor nor a failover starts anew."""
    fence = ledger.running("r1", usd(30))
    ledger.renew("r1", fence, streamed=True)
    assert ledger.failover("r1", fence, usd(1)) == answers.Refused(why="streamed")
    ledger.now_ms += LEASE_MS
    assert ledger.start("r1", (usd(20),)) == answers.Unknown()
    assert ledger.month() == {"settled": 30}


def test_a_second_attempt_that_does_not_fit_is_not_made(ledger: Ledger) -> None:
    """The estimate of the first is booked all the same, and reap lists it at once."""
    ledger.running("r1", usd(90))
    ledger.now_ms += LEASE_MS
    assert ledger.start("r1", (usd(20),)) == answers.Unknown()
    assert ledger.reap() == [("r1", "UNKNOWN")]


def test_a_failover_moves_a_hold_that_cannot_have_been_spent(ledger: Ledger) -> None:
    """The same money serves the second attempt."""
    fence = ledger.running("r1", usd(100))
    assert ledger.failover("r1", fence, usd(100)) == answers.Fence(fence=fence + 1, attempt=2)
    assert ledger.month() == {"reserved": 100}


def test_a_failover_books_what_may_have_been_spent(ledger: Ledger) -> None:
    """If that leaves no room for a second attempt, nothing changes."""
    fence = ledger.running("r1", usd(60))
    refused = answers.Refused(why="spent", id="month", usage=40, limit=100)
    assert ledger.failover("r1", fence, usd(61), estimate=40) == refused
    assert ledger.month() == {"reserved": 60}
    assert isinstance(ledger.failover("r1", fence, usd(60), estimate=40), answers.Fence)
    assert ledger.month() == {"settled": 40, "reserved": 60}


def test_a_repeated_failover_gets_the_same_fence_and_a_third_attempt_is_refused(
    ledger: Ledger,
) -> None:
    """A lost answer costs nothing; two attempts are the most."""
    fence = ledger.running("r1", usd(10))
    second = ledger.failover("r1", fence, usd(10))
    assert ledger.failover("r1", fence, usd(10)) == second
    assert ledger.failover("r1", fence + 1, usd(10)) == answers.Refused(why="attempts")
    assert ledger.month() == {"reserved": 10}


def test_spending_above_the_hold_is_booked_and_counted(ledger: Ledger) -> None:
    """Real money is never dropped."""
    ledger.finish("r1", ledger.running("r1", usd(30)), 45)
    assert ledger.month() == {"settled": 45, "over": 15}


def test_an_unknown_cost_is_booked_at_the_whole_hold(ledger: Ledger) -> None:
    """Nothing is free because nobody knows what it cost."""
    ledger.finish("r1", ledger.running("r1", usd(30)), None)
    assert ledger.month() == {"settled": 30}


def test_finishing_twice_books_once(ledger: Ledger) -> None:
    """The second time returns the first outcome."""
    fence = ledger.running("r1", usd(30))
    assert ledger.finish("r1", fence, 10) == answers.Ok()
    assert ledger.finish("r1", fence, 20) == answers.Repeated(outcome=b"outcome")
    assert ledger.month() == {"settled": 10}


def test_an_unknown_request_is_gone(ledger: Ledger) -> None:
    """Its owner has to attach again with start."""
    assert ledger.renew("r1", 1) == answers.Gone()
    assert ledger.finish("r1", 1, 1) == answers.Gone()
    assert ledger.start("r1") == answers.Gone()


def test_a_cancellation_overtakes_its_request(ledger: Ledger) -> None:
    """A tombstone without a request stops its admission later."""
    assert ledger.cancel("r1") == answers.Ok()
    assert ledger.admit("r1", usd(1)) == answers.Cancelled()


def test_cancelling_a_waiting_request_returns_its_hold(ledger: Ledger) -> None:
    """It never starts."""
    ledger.admit("r1", usd(30))
    assert ledger.cancel("r1") == answers.Ok()
    assert ledger.month() == {}
    assert ledger.start("r1") == answers.Cancelled()


def test_cancelling_a_running_request_tells_its_owner(ledger: Ledger) -> None:
    """The caller learns the owner, the owner learns it by its next renewal; it can still finish."""
    fence = ledger.running("r1", usd(30))
    assert ledger.cancel("r1") == answers.Running(owner="d1")
    assert ledger.renew("r1", fence) == answers.Cancelled()
    assert ledger.failover("r1", fence, usd(1)) == answers.Cancelled()
    assert ledger.finish("r1", fence, 3) == answers.Ok()
    assert ledger.cancel("r1") == answers.Terminal()
