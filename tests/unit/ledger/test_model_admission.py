"""What the ledger admits and refuses, told on the model; the Lua functions are held against it."""

from __future__ import annotations

from schemas.ledger import answers
from schemas.ledger.documents import (
    Decline,
    Lease,
    RateUse,
)
from tests.unit.ledger.model_scene import (
    DEADLINE_MS,
    LEASE,
    PERIOD_END_MS,
    Ledger,
    duplicate,
    rate,
    usd,
)


def test_a_hold_that_fits_is_taken(ledger: Ledger) -> None:
    """The last unit of a budget can be held."""
    assert ledger.admit("r1", usd(100)) == answers.Admitted()
    assert ledger.month() == {"reserved": 100}


def test_a_hold_that_running_holds_crowd_out_is_contended(ledger: Ledger) -> None:
    """It would fit once they return, so it is not refused for good."""
    ledger.admit("r1", usd(60))
    contended = answers.Contended(id="month", usage=60, limit=100, retry_after_ms=1_000)
    assert ledger.admit("r2", usd(41)) == contended
    assert ledger.month() == {"reserved": 60}


def test_a_hold_above_what_is_left_unspent_is_refused(ledger: Ledger) -> None:
    """Spent money does not come back."""
    ledger.finish("r1", ledger.running("r1", usd(60)), 60)
    refused = answers.Refused(why="spent", id="month", usage=60, limit=100)
    assert ledger.admit("r2", usd(41)) == refused


def test_a_refusal_is_final_for_its_request(ledger: Ledger) -> None:
    """A redelivery hears the same answer even when there is room by now."""
    fence = ledger.running("r1", usd(60))
    refusal = ledger.admit("r2", usd(41))
    ledger.finish("r1", fence, 0)
    assert ledger.admit("r2", usd(41)) == duplicate(refusal)
    assert ledger.start("r2") == refusal


def test_a_deferred_request_may_ask_again(ledger: Ledger) -> None:
    """Contention under policy defer is not recorded."""
    fence = ledger.running("r1", usd(60))
    assert isinstance(ledger.admit("r2", usd(41), defer=True), answers.Contended)
    ledger.finish("r1", fence, 0)
    assert ledger.admit("r2", usd(41), defer=True) == answers.Admitted()


def test_only_the_limits_that_are_waited_for_may_be_asked_again(ledger: Ledger) -> None:
    """A lease that the caller waits for refuses nothing; another limit does, for good."""
    ledger.admit("r1", leases=(LEASE,), rates=(rate(cost=3),))
    waits = ("lease",)
    assert isinstance(ledger.admit("r2", leases=(LEASE,), waits_for=waits), answers.Limited)
    assert isinstance(ledger.admit("r2", waits_for=waits), answers.Admitted)
    refused = ledger.admit("r3", rates=(rate(cost=3),), waits_for=waits)
    assert ledger.admit("r3", waits_for=waits) == duplicate(refused)


def test_a_shed_request_is_refused_for_good_and_holds_nothing(ledger: Ledger) -> None:
    """No limit is asked; a redelivery hears the same, whoever reads it."""
    shed = answers.Declined(why="overloaded", retry_after_ms=700)
    assert (
        ledger.admit("r1", usd(10), decline=Decline(why="overloaded", retry_after_ms=700)) == shed
    )
    assert ledger.admit("r1", usd(10)) == duplicate(shed)
    assert ledger.start("r1") == shed
    assert ledger.month() == {}


def test_a_deferred_request_may_ask_its_rate_again(ledger: Ledger) -> None:
    """An empty bucket under policy defer is not recorded either."""
    ledger.admit("r1", rates=(rate(cost=3),))
    assert isinstance(ledger.admit("r2", rates=(rate(cost=3),), defer=True), answers.Limited)
    ledger.now_ms += 1_000
    assert isinstance(ledger.admit("r2", rates=(rate(cost=3),), defer=True), answers.Admitted)


def test_a_period_that_is_over_takes_nothing(ledger: Ledger) -> None:
    """At the very end of a period its balance has rolled over, and no limit was charged."""
    ledger.now_ms = PERIOD_END_MS
    assert ledger.admit("r1", usd(1), rates=(rate(),)) == answers.Rolled(
        id="month", now_ms=PERIOD_END_MS
    )
    assert ledger.month() == {}
    assert ledger.model.limits.buckets == {}


def test_limits_are_all_or_nothing(ledger: Ledger) -> None:
    """A refusal by the last limit leaves the first ones untouched."""
    lease = Lease(key="c:x", id="lease", limit=1)
    assert isinstance(
        ledger.admit("r1", usd(101), rates=(rate(),), leases=(lease,)), answers.Refused
    )
    assert ledger.model.limits.buckets == {}
    assert not ledger.model.limits.leases["acme", "c:x"]


def test_a_burst_is_admitted_whole_and_not_one_more(ledger: Ledger) -> None:
    """Three units at a third of a second each are exactly three, without rounding loss."""
    verdicts = [ledger.admit(f"r{n}", rates=(rate(),)) for n in range(4)]
    assert [type(verdict) for verdict in verdicts] == [answers.Admitted] * 3 + [answers.Limited]
    assert verdicts[3] == answers.Limited(id="rps", usage=3, limit=3, retry_after_ms=334)


def test_a_rate_hint_is_the_earliest_success(ledger: Ledger) -> None:
    """One ms less is too early."""
    for n in range(3):
        ledger.admit(f"r{n}", rates=(rate(),))
    ledger.now_ms += 333
    assert isinstance(ledger.admit("early", rates=(rate(),)), answers.Limited)
    ledger.now_ms += 1
    assert isinstance(ledger.admit("in time", rates=(rate(),)), answers.Admitted)


def test_a_cost_above_the_capacity_is_refused_for_good(ledger: Ledger) -> None:
    """No waiting helps a request that is larger than the bucket."""
    refused = answers.Refused(why="too_large", id="rps", usage=4, limit=3)
    assert ledger.admit("r1", rates=(rate(cost=4),)) == refused


def test_unused_rate_units_return_but_never_fill_above_full(ledger: Ledger) -> None:
    """Finish refunds the difference; after a long call the bucket is merely full."""
    fence = ledger.running("r1", rates=(rate(cost=3),))
    ledger.finish("r1", fence, 0, (RateUse(key="r:x", units=1),))
    assert isinstance(ledger.admit("r2", rates=(rate(cost=2),)), answers.Admitted)
    fence = ledger.running("r3")
    ledger.now_ms += 10_000
    ledger.finish("r3", fence, 0, (RateUse(key="r:x", units=0),))
    assert isinstance(ledger.admit("r4", rates=(rate(cost=3),)), answers.Admitted)
    assert isinstance(ledger.admit("r5", rates=(rate(cost=1),)), answers.Limited)


def test_a_clock_that_is_set_back_costs_a_bucket_its_burst_at_most(ledger: Ledger) -> None:
    """Not ten minutes of refusals, as long as its time lies ahead."""
    for n in range(3):
        ledger.admit(f"r{n}", rates=(rate(),))
    ledger.now_ms -= 600_000
    limited = ledger.admit("r3", rates=(rate(),))
    ledger.now_ms += 334

    assert limited == answers.Limited(id="rps", usage=3, limit=3, retry_after_ms=334)
    assert isinstance(ledger.admit("r4", rates=(rate(),)), answers.Admitted)


def test_a_concurrency_lease_returns_with_its_request(ledger: Ledger) -> None:
    """One place, one runner; the place is free once it finished."""
    lease = (Lease(key="c:x", id="lease", limit=1),)
    ledger.admit("r1", leases=lease)
    claimed = ledger.start("r1")
    assert isinstance(claimed, answers.Fence)
    limited = answers.Limited(id="lease", usage=1, limit=1, retry_after_ms=1_000)
    assert ledger.admit("r2", leases=lease) == limited
    ledger.finish("r1", claimed.fence, 0)
    assert isinstance(ledger.admit("r3", leases=lease), answers.Admitted)


def test_a_request_past_its_deadline_is_expired(ledger: Ledger) -> None:
    """Neither admitted nor started."""
    ledger.admit("r1", usd(1))
    ledger.now_ms = DEADLINE_MS
    assert ledger.admit("r2") == answers.Expired()
    assert ledger.start("r1") == answers.Expired()
