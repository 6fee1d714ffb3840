"""What each ledger function decides, told on the model; the Lua functions are held against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.ledger import answers
from schemas.ledger.documents import (
    Admit,
    Balance,
    Book,
    Booking,
    Cancel,
    Decline,
    Finish,
    Lease,
    ListUnbooked,
    NextAttempt,
    OutcomeRow,
    Rate,
    RateUse,
    Reap,
    Reaped,
    ReapedRequest,
    Renew,
    Start,
)
from schemas.ledger.model.ledger import LedgerModel

MONTH = "b:org:acme:month"
T0_MS = 1_000_000
LEASE_MS = 15_000
DEADLINE_MS = T0_MS + 60_000
PERIOD_END_MS = T0_MS + 50_000


LEASE = Lease(key="c:x", id="lease", limit=1)


def usd(amount: int, limit: int | None = 100) -> Balance:
    return Balance(
        key=MONTH,
        id="month",
        unit="nano_usd",
        amount=amount,
        limit=limit,
        start_ms=0,
        end_ms=PERIOD_END_MS,
    )


def duplicate(answer: Any, state: str = "REFUSED") -> answers.Duplicate:
    """What the copy of a request hears that was answered so."""
    return answers.Duplicate(answer=answer, state=state)


def rate(cost: int = 1) -> Rate:
    """Three units deep, three per second: an interval that is no whole number of µs."""
    return Rate(key="r:x", id="rps", cost=cost, burst=3, rate_milli_per_s=3_000)


def row(
    offset: int,
    req: str,
    amount: int,
    *,
    at_ms: int = T0_MS,
    ref: str | None = None,
    ran: bool = True,
) -> OutcomeRow:
    """A record of the log that books an amount of the month."""
    return OutcomeRow(
        offset=offset,
        at_ms=at_ms,
        req=req,
        deadline_ms=DEADLINE_MS,
        ref=ref,
        ran=ran,
        bookings=(Booking(key=MONTH, unit="nano_usd", amount=amount),) if amount else (),
    )


@dataclass
class Ledger:
    """The model with a clock in milliseconds, and requests of one org in few words."""

    model: LedgerModel = field(default_factory=lambda: LedgerModel(epoch=1))
    now_ms: int = T0_MS

    @property
    def now_us(self) -> int:
        return self.now_ms * 1000

    def admit(
        self,
        req: str,
        *balances: Balance,
        rates: tuple[Rate, ...] = (),
        leases: tuple[Lease, ...] = (),
        defer: bool = False,
        waits_for: tuple[str, ...] = (),
        decline: Decline | None = None,
    ) -> answers.AdmitAnswer:
        document = Admit(
            org="acme",
            req=req,
            deadline_ms=DEADLINE_MS,
            accepted_ms=T0_MS,
            balances=balances,
            rates=rates,
            leases=leases,
            defer=defer,
            waits_for=waits_for,
            decline=decline,
        )
        return self.model.admit(document, self.now_us)

    def start(
        self, req: str, second: tuple[Balance, ...] | None = None, owner: str = "d1"
    ) -> answers.StartAnswer:
        document = Start(org="acme", req=req, owner=owner, lease_ms=LEASE_MS, second_attempt=second)
        return self.model.start(document, self.now_us)

    def running(self, req: str, *balances: Balance, rates: tuple[Rate, ...] = ()) -> int:
        """Admits and starts; returns the fence."""
        self.admit(req, *balances, rates=rates)
        claimed = self.start(req)
        assert isinstance(claimed, answers.Fence)
        return claimed.fence

    def finish(
        self, req: str, fence: int, spent: int | None, uses: tuple[RateUse, ...] = ()
    ) -> answers.FinishAnswer:
        document = Finish(
            org="acme", req=req, fence=fence, actual={"nano_usd": spent}, actual_rates=uses
        )
        return self.model.finish(document, b"outcome", self.now_us)

    def renew(self, req: str, fence: int, streamed: bool = False) -> answers.RenewAnswer:
        document = Renew(org="acme", req=req, fence=fence, lease_ms=LEASE_MS, streamed=streamed)
        return self.model.renew(document, self.now_us)

    def failover(
        self, req: str, fence: int, second: Balance, estimate: int | None = None
    ) -> answers.NextAttemptAnswer:
        document = NextAttempt(
            org="acme",
            req=req,
            fence=fence,
            may_have_spent=estimate is not None,
            second=(second,),
            estimate={} if estimate is None else {"nano_usd": estimate},
        )
        return self.model.next_attempt(document, self.now_us)

    def cancel(self, req: str) -> answers.CancelAnswer:
        return self.model.cancel(Cancel(org="acme", req=req, deadline_ms=DEADLINE_MS), self.now_us)

    def reap(self, limit: int = 10) -> list[tuple[str, str]]:
        listed = self.model.reap(Reap(limit=limit), self.now_us)
        return [(entry.req, entry.verdict) for entry in listed.entries]

    def book_rows(self, *rows: OutcomeRow, org: str = "acme") -> tuple[str, ...]:
        return self.model.book(Book(org=org, partition=0, rows=rows)).rows

    def book(self, *rows: tuple[int, str]) -> tuple[str, ...]:
        records = tuple(
            OutcomeRow(
                offset=offset,
                at_ms=T0_MS,
                req=req,
                deadline_ms=DEADLINE_MS,
                bookings=(Booking(key=MONTH, unit="nano_usd", amount=5),),
            )
            for offset, req in rows
        )
        return self.model.book(Book(org="acme", partition=0, rows=records)).rows

    def month(self) -> dict[str, int]:
        balance = self.model.limits.balances["acme", MONTH]
        return {name: amount for name, amount in balance.items() if amount}


@pytest.fixture
def ledger() -> Ledger:
    """A new ledger at T0."""
    return Ledger()


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
    assert ledger.finish("r1", old, 1) == answers.Stale()
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


def test_reap_lists_until_it_is_confirmed(ledger: Ledger) -> None:
    """An outcome that did not reach Kafka is offered again after 30 s."""
    ledger.admit("r1", usd(30))
    ledger.now_ms = DEADLINE_MS
    assert ledger.reap() == [("r1", "VOIDED")]
    assert ledger.month() == {}
    assert ledger.reap() == []
    ledger.now_ms += 30_000
    assert ledger.reap() == [("r1", "VOIDED")]
    ledger.model.reaped(Reaped(entries=(ReapedRequest(org="acme", req="r1"),)))
    ledger.now_ms += 30_000
    assert ledger.reap() == []


def test_reap_leaves_an_expired_lease_its_grace(ledger: Ledger) -> None:
    """A successor has 30 s before the attempt is given up."""
    ledger.running("r1", usd(30))
    ledger.now_ms += LEASE_MS + 29_999
    assert ledger.reap() == []
    ledger.now_ms += 1
    assert ledger.reap() == [("r1", "UNKNOWN")]
    assert ledger.month() == {"settled": 30}


def test_a_correction_is_booked_once_and_an_increase_counts_as_late(ledger: Ledger) -> None:
    """It changes balance and total in one step; corrections have no hold behind them."""
    ledger.finish("r1", ledger.running("r1", usd(30)), 30)
    ledger.book_rows(row(1, "r1", 30))
    for offset, (ref, amount) in enumerate((("1", -20), ("1", -20), ("2", 5)), start=2):
        ledger.book_rows(row(offset, "r1", amount, ref=ref))
    assert ledger.month() == {"settled": 15, "late": 5}
    assert ledger.model.limits.totals["acme", MONTH] == {"settled": 15, "late": 5}


def test_an_outcome_that_the_ledger_did_not_hold_settles_its_bookings(ledger: Ledger) -> None:
    """Of a request that it does not know, or knows only from corrections."""
    ledger.book_rows(row(1, "r1", 7), row(2, "r2", -1, ref="1:1"), row(3, "r2", 3))
    assert ledger.month() == {"settled": 9, "late": 10}


def test_what_the_ledger_settled_is_not_settled_by_its_outcome(ledger: Ledger) -> None:
    """Whether it is finished, given up or runs on."""
    ledger.finish("r1", ledger.running("r1", usd(30)), 10)
    ledger.running("r2", usd(30))
    ledger.book_rows(row(1, "r1", 10), row(2, "r2", 30))
    assert ledger.month() == {"settled": 10, "reserved": 30}


def test_a_request_that_ran_by_the_log_alone_is_marked_so(ledger: Ledger) -> None:
    """No key's claim frees it; one that never ran does."""
    ledger.book_rows(row(1, "r1", 7), row(2, "r2", 0, ran=False))
    ran = [ledger.model.attempts["acme", req].ran for req in ("r1", "r2")]
    assert ran == [True, False]


MINUTE_MS = 60_000


def test_copies_are_known_however_long_accounting_was_away(ledger: Ledger) -> None:
    """300 requests of 8 000 nano-USD, each twice in the log, the copies booked 20 min later."""
    requests = [f"r{n}" for n in range(300)]
    for n, req in enumerate(requests):
        ledger.finish(req, ledger.running(req, usd(8_000, limit=None)), 8_000)
        ledger.book_rows(row(n, req, 8_000))
    ledger.now_ms += 20 * MINUTE_MS
    copies = [row(300 + n, req, 8_000, at_ms=T0_MS + 1_000) for n, req in enumerate(requests)]
    assert set(ledger.book_rows(*copies)) == {"DUPLICATE"}
    assert ledger.month() == ledger.model.limits.totals["acme", MONTH] == {"settled": 2_400_000}


def test_marks_leave_fifteen_minutes_of_the_log_after_deadline_and_append(ledger: Ledger) -> None:
    """Also those of an organization that is silent since."""
    ledger.book_rows(row(1, "r1", 7))
    later_ms = max(DEADLINE_MS, T0_MS) + 15 * MINUTE_MS
    ledger.book_rows(row(2, "r2", 7, at_ms=later_ms), org="other")
    assert ("acme", "r1") in ledger.model.attempts
    ledger.book_rows(row(3, "r3", 7, at_ms=later_ms + 1), org="other")
    assert ("acme", "r1") not in ledger.model.attempts


def test_of_what_may_be_forgotten_the_log_is_asked(ledger: Ledger) -> None:
    """Nothing is booked on a guess: the row and those after it wait for the answer."""
    long_ago_ms = max(DEADLINE_MS, T0_MS) + 15 * MINUTE_MS + 1
    ledger.book_rows(row(1, "r1", 7), row(2, "r2", 7, at_ms=long_ago_ms))
    old, new = row(3, "r1", 7), row(4, "r3", 7, at_ms=long_ago_ms)
    assert ledger.book_rows(old, new) == ()
    copy, first = replace(old, is_first=False), replace(new, is_first=True)
    assert ledger.book_rows(copy, first) == ("DUPLICATE", "BOOKED")
    assert ledger.month()["settled"] == 21


def test_a_running_attempt_outlives_its_mark(ledger: Ledger) -> None:
    """Its hold must return when it ends."""
    ledger.book_rows(row(1, "r1", 0))
    ledger.model.attempts["acme", "r1"].state = "RUNNING"
    ledger.book_rows(row(2, "r2", 0, at_ms=DEADLINE_MS + 99 * MINUTE_MS))
    assert ("acme", "r1") in ledger.model.attempts


def test_what_is_finished_is_listed_until_it_is_booked(ledger: Ledger) -> None:
    """The oldest first, in pages."""
    for req in ("r1", "r2", "r3"):
        ledger.finish(req, ledger.running(req, usd(1)), 1)
        ledger.now_ms += 1
    ledger.book_rows(row(1, "r2", 1))
    listing = ListUnbooked(until_ms=ledger.now_ms, limit=1)
    pages = [ledger.model.books.unbooked(replace(listing, skip=skip)) for skip in range(3)]
    assert [[e.req for e in page.entries] for page in pages] == [["r1"], ["r3"], []]
    early = ListUnbooked(until_ms=T0_MS)
    assert [e.finished_ms for e in ledger.model.books.unbooked(early).entries] == [T0_MS]


def test_book_counts_the_first_record_of_a_request_only(ledger: Ledger) -> None:
    """Records passed before are SEEN, copies at later offsets are DUPLICATE."""
    assert ledger.book((1, "r1"), (2, "r2"), (3, "r1")) == ("BOOKED", "BOOKED", "DUPLICATE")
    assert ledger.book((2, "r2"), (4, "r2"), (5, "r3")) == ("SEEN", "DUPLICATE", "BOOKED")
    assert ledger.model.limits.totals["acme", MONTH]["settled"] == 15


def test_a_booked_request_has_no_second_life(ledger: Ledger) -> None:
    """After a rebuild only the booking is remembered: no admission, no start, no finish."""
    ledger.book((1, "r1"))
    assert ledger.admit("r1", usd(1)) == answers.Duplicate(state="BOOKED")
    assert ledger.start("r1") == answers.Finished(outcome=b"", booked="0:1")
    assert ledger.finish("r1", 1, 1) == answers.Repeated(outcome=b"", booked="0:1")
