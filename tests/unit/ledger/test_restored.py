"""Requests that a rebuild found open: what they hold, who gets them, and what is booked for them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.ledger import answers
from schemas.ledger.documents import (
    Attach,
    Balance,
    Booking,
    FirstAttempt,
    OutcomeRow,
    Readmission,
    Restore,
    RestoredRequest,
    Start,
)
from schemas.ledger.model.state import EPOCH_FENCES, GRACE_MS
from tests.unit.ledger.model_scene import (
    DEADLINE_MS,
    LEASE_MS,
    MINUTE_MS,
    MONTH,
    T0_MS,
    Ledger,
    row,
    usd,
)

REQUESTS = "b:org:requests"
OLD = EPOCH_FENCES + 1
"""A fence of the life before."""


@pytest.fixture
def ledger() -> Ledger:
    """Rebuilt a moment ago, with one request of 30 nano-USD that is open, under a budget of 100."""
    ledger = Ledger()
    ledger.model.epoch, ledger.model.ready_ms = 2, T0_MS
    restore(ledger, "r1", usd(30))
    return ledger


def restore(ledger: Ledger, req: str, *balances: Balance) -> None:
    entry = RestoredRequest(
        org="acme", req=req, deadline_ms=DEADLINE_MS, accepted_ms=T0_MS, balances=balances
    )
    assert ledger.model.restore(Restore(building="", attempts=(entry,))) == answers.Ok()


def attach(
    ledger: Ledger,
    req: str = "r1",
    *balances: Balance,
    fence: int = OLD,
    first: FirstAttempt | None = None,
) -> answers.AttachAnswer:
    hold = balances or (usd(30),)
    readmit = Readmission(deadline_ms=DEADLINE_MS, accepted_ms=T0_MS, balances=hold)
    document = Attach(
        org="acme",
        req=req,
        owner="d1",
        lease_ms=LEASE_MS,
        fence=fence,
        attempt=2 if first else 1,
        first=first,
        readmit=readmit,
    )
    return ledger.model.attach(document, ledger.now_us)


def begin(ledger: Ledger, **more: Any) -> answers.StartAnswer:
    document = Start(
        org="acme", req="r1", owner="d2", lease_ms=LEASE_MS, second_attempt=(usd(30),), **more
    )
    return ledger.model.start(document, ledger.now_us)


def unsettled(req: str, amount: int) -> OutcomeRow:
    """An outcome that was produced while the ledger was closed."""
    return replace(row(1, req, amount), unsettled=True)


def test_what_is_open_holds_twice_what_it_may_use(ledger: Ledger) -> None:
    """Nobody knows whether its second attempt runs already; what does not fit beside may fit later."""
    assert ledger.month() == {"reserved": 30, "spare": 30}
    assert isinstance(ledger.admit("r2", usd(41)), answers.Contended)
    assert isinstance(ledger.admit("r3", usd(40)), answers.Admitted)


def test_however_often_it_runs_a_request_counts_once(ledger: Ledger) -> None:
    """A quota of requests is held once."""
    restore(ledger, "r2", Balance(key=REQUESTS, unit="requests", amount=1, start_ms=0))
    assert dict(ledger.model.limits.balances["acme", REQUESTS]) == {"reserved": 1}


def test_a_rebuild_that_another_has_overtaken_restores_nothing(ledger: Ledger) -> None:
    """Its token is not the one that is under way."""
    ledger.model.building = "3:later"
    assert ledger.model.restore(Restore(building="2:mine", attempts=())) == answers.Stale()


def test_an_owner_goes_on_under_the_fence_it_had(ledger: Ledger) -> None:
    """Its renewal and its end are told to attach first; then they mean what they always do."""
    assert ledger.renew("r1", OLD) == ledger.finish("r1", OLD, 1) == answers.Gone()
    assert attach(ledger) == answers.Ok()
    assert ledger.renew("r1", OLD) == answers.Ok()
    assert ledger.finish("r1", OLD, 7) == answers.Ok()
    assert ledger.month() == {"settled": 7}


def test_a_spare_returns_once_no_other_owner_can_come(ledger: Ledger) -> None:
    """Two leases after the rebuild, with a renewal."""
    attach(ledger)
    ledger.renew("r1", OLD)
    assert ledger.month() == {"reserved": 30, "spare": 30}
    ledger.now_ms += GRACE_MS
    ledger.renew("r1", OLD)
    assert ledger.month() == {"reserved": 30}


def test_an_owner_in_its_second_attempt_says_what_the_first_cost(ledger: Ledger) -> None:
    """That is settled, and the second hold is the spare."""
    first = FirstAttempt(verdict="FAILED", fence=OLD, actual={"nano_usd": 12})
    assert attach(ledger, fence=OLD + 1, first=first) == answers.Ok()
    assert ledger.month() == {"settled": 12, "reserved": 30}
    assert ledger.failover("r1", OLD + 1, usd(30)) == answers.Refused(why="attempts")
    ledger.finish("r1", OLD + 1, 25)
    assert ledger.month() == {"settled": 37}


def test_of_two_owners_the_later_one_stays_in_any_order(ledger: Ledger) -> None:
    """The earlier one had vanished, so its attempt was written off; both fit whoever comes first."""
    lost = FirstAttempt(verdict="UNKNOWN", fence=OLD)
    restore(ledger, "r2", usd(20))
    attach(ledger, "r1")
    attach(ledger, "r1", fence=OLD + 1, first=lost)
    attach(ledger, "r2", usd(20), fence=OLD + 1, first=lost)
    assert attach(ledger, "r2", usd(20)) == answers.Stale(written_off=(1,))
    assert ledger.finish("r1", OLD, 30) == answers.Stale(written_off=(1,))
    assert ledger.month() == {"settled": 50, "reserved": 50}


def test_what_runs_and_was_never_heard_of_is_held_without_asking(ledger: Ledger) -> None:
    """What is spent is spent."""
    assert attach(ledger, "r9", usd(90)) == answers.Ok()
    assert ledger.month() == {"reserved": 120, "spare": 30}
    ledger.now_ms = DEADLINE_MS
    assert attach(ledger, "r8") == answers.Gone()


def test_nobody_else_begins_until_an_owner_would_have_come(ledger: Ledger) -> None:
    """And then the log says first whether it ended."""
    assert begin(ledger) == answers.Busy(ms=GRACE_MS, owner="", fence=0, attempt=1)
    ledger.now_ms += GRACE_MS
    assert begin(ledger) == answers.Restored()
    second = begin(ledger, asked=True)
    assert isinstance(second, answers.Fence)
    assert (second.attempt, second.fence) == (2, 2 * EPOCH_FENCES + 1)
    assert ledger.month() == {"settled": 30, "reserved": 30, "spare": 30}


def test_a_second_attempt_needs_room_beside_all_that_a_vanished_owner_may_have_spent(
    ledger: Ledger,
) -> None:
    """That may have been two attempts: without room for a third the request ends."""
    ledger.admit("r2", usd(40))
    ledger.now_ms += GRACE_MS
    assert begin(ledger, asked=True) == answers.Unknown()
    assert ledger.month() == {"settled": 30, "reserved": 40}


def test_whoever_has_it_fresh_begins_at_once(ledger: Ledger) -> None:
    """As the first attempt; the spare stays for an owner that should not be there."""
    first = begin(ledger, fresh=True)
    assert isinstance(first, answers.Fence)
    assert first.attempt == 1
    assert attach(ledger) == answers.Stale()
    ledger.now_ms += GRACE_MS
    ledger.renew("r1", first.fence)
    assert ledger.month() == {"reserved": 30, "spare": 30}
    ledger.finish("r1", first.fence, 9)
    assert ledger.month() == {"settled": 9}


def test_what_never_began_costs_nothing_past_its_deadline(ledger: Ledger) -> None:
    """Whoever has it fresh gives the hold back; a tombstone likewise."""
    restore(ledger, "r2", usd(10))
    ledger.cancel("r2")
    cancelled = ledger.model.start(
        Start(org="acme", req="r2", owner="d2", lease_ms=LEASE_MS, fresh=True), ledger.now_us
    )
    ledger.now_ms = DEADLINE_MS
    assert (begin(ledger, fresh=True), cancelled) == (answers.Expired(), answers.Cancelled())
    assert ledger.month() == {}
    assert ledger.reap() == [("r1", "VOIDED")]


def test_what_nobody_comes_for_is_written_off(ledger: Ledger) -> None:
    """Past its deadline, and never before its owner had the time to come."""
    ledger.now_ms = DEADLINE_MS
    ledger.model.ready_ms = DEADLINE_MS - 1
    assert ledger.reap() == []
    ledger.now_ms += GRACE_MS
    assert ledger.reap() == [("r1", "UNKNOWN")]
    assert ledger.month() == {"settled": 30}


@pytest.mark.parametrize("state", ["RESTORED", "attached", "in its second attempt", "written off"])
def test_the_outcome_says_what_was_used_whatever_the_ledger_made_of_it(
    ledger: Ledger, state: str
) -> None:
    """It ended while the ledger was closed: all that was held or settled for it makes place."""
    if state == "attached":
        attach(ledger)
    elif state == "in its second attempt":
        ledger.now_ms += GRACE_MS
        begin(ledger, asked=True)
    elif state == "written off":
        ledger.now_ms = DEADLINE_MS
        ledger.reap()
    assert ledger.book_rows(unsettled("r1", 21)) == ("BOOKED",)
    assert ledger.month() == ledger.model.limits.totals["acme", MONTH] == {"settled": 21}
    assert ledger.finish("r1", OLD, 9) == answers.Repeated(booked="0:1")
    assert ("acme", "r1") not in (*ledger.model.expiring, *ledger.model.inflight)


def test_an_outcome_above_all_that_was_held_is_counted_over(ledger: Ledger) -> None:
    """Real spend is always booked."""
    ledger.book_rows(unsettled("r1", 61))
    assert ledger.month() == ledger.model.limits.totals["acme", MONTH] == {"settled": 61, "over": 1}


def test_what_ended_while_the_ledger_was_closed_may_be_running_in_it(ledger: Ledger) -> None:
    """One that was closed for a moment only knows the attempt as it was."""
    fence = ledger.running("r2", usd(10))
    assert ledger.book_rows(replace(unsettled("r2", 4), bookings=(month(4),))) == ("BOOKED",)
    assert ledger.month() == {"settled": 4, "reserved": 30, "spare": 30}
    assert isinstance(ledger.finish("r2", fence, 9), answers.Repeated)


def month(amount: int) -> Booking:
    return Booking(key=MONTH, unit="nano_usd", amount=amount)


def test_a_copy_of_its_record_is_dropped_and_its_key_joined(ledger: Ledger) -> None:
    """Its dispatch is in the log: there is nothing to produce."""
    assert ledger.admit("r1", usd(30)) == answers.Duplicate(state="RESTORED")
    assert ledger.cancel("r1") == answers.Running(owner="")
    assert attach(ledger) == answers.Cancelled()


def test_a_clock_that_is_put_back_keeps_no_request_waiting_for_hours(ledger: Ledger) -> None:
    """Nobody waits longer than two leases."""
    ledger.model.ready_ms = T0_MS + 60 * MINUTE_MS
    waiting = begin(ledger)
    assert isinstance(waiting, answers.Busy)
    assert waiting.ms == GRACE_MS
