"""What every ledger does behind its client: run on the model and on a real store, told once.

A tier makes it a class of tests of its own by inheriting it and giving the fixture ``ledger``. Time is an
argument of each call, so that leases and deadlines pass without waiting.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.ledger import answers, keys
from schemas.ledger.documents import (
    Admit,
    Balance,
    Book,
    Booking,
    Cancel,
    Claim,
    Finish,
    Job,
    Lease,
    ListJobs,
    Look,
    NextAttempt,
    OutcomeRow,
    Rate,
    Readmission,
    Reap,
    Reaped,
    ReapedRequest,
    Release,
    Renew,
    Start,
)
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.shard_documents import Identify
from schemas.runtime.ledger.client import LedgerClient
from schemas.times import FULL, HOUR_MS
from tests.support.one_shard import SHARD

T0_MS = 1_800_000_000_000
LEASE_MS = 15_000
DEADLINE_MS = T0_MS + 60_000
MONTH = keys.balance_suffix("org:acme", "month:2027-01")
LARGEST = 2**53 - 7


def budget(amount: int, limit: int | None = None) -> Balance:
    """A hold on a month that ends long after every test."""
    day_ms = 86_400_000
    return Balance(
        key=MONTH,
        id="org:budget:month",
        unit="nano_usd",
        amount=amount,
        limit=limit,
        start_ms=T0_MS - day_ms,
        end_ms=T0_MS + 30 * day_ms,
    )


def request(req: str, *balances: Balance, at_ms: int = T0_MS, **more: Any) -> Admit:
    """A request of acme, received at T0."""
    return Admit(
        org="acme",
        req=req,
        deadline_ms=DEADLINE_MS,
        accepted_ms=T0_MS,
        balances=balances,
        now_us=at_ms * 1_000,
        **more,
    )


def start(req: str, *, at_ms: int = T0_MS, owner: str = "d1", **more: Any) -> Start:
    """A claim by one dispatcher."""
    return Start(org="acme", req=req, owner=owner, lease_ms=LEASE_MS, now_us=at_ms * 1_000, **more)


def claim(
    req: str, *, fingerprint: str = "f", at_ms: int = T0_MS, key: str = "k", limit: int = 10
) -> Claim:
    """A claim of the one key that most tests use."""
    return Claim(
        org="acme",
        req=req,
        key_hash=key,
        fingerprint=fingerprint,
        produce_by_ms=at_ms + 10_000,
        deadline_ms=DEADLINE_MS,
        limit=limit,
        now_us=at_ms * 1_000,
    )


async def running(ledger: LedgerClient, req: str, *balances: Balance) -> int:
    """Admit and start a request; its fence."""
    assert isinstance(await ledger.admit(request(req, *balances)), answers.Admitted)
    fence = await ledger.start(start(req))
    assert isinstance(fence, answers.Fence)
    return fence.fence


def finish(req: str, fence: int, spent: int | None) -> Finish:
    """The end of an attempt that used so many nano-USD."""
    return Finish(
        org="acme", req=req, fence=fence, actual={"nano_usd": spent}, now_us=T0_MS * 1_000
    )


class LedgerSuite:
    """Behaviours of a ledger, each on a ledger of its own that nothing was told yet."""

    async def test_a_shard_belongs_to_the_log_that_it_was_told_first(
        self, ledger: LedgerClient
    ) -> None:
        """What is not known is no difference; another cluster or birth closes it."""
        mine = Identify(cluster_id="c", birth_id="b")
        first = await ledger.identify(SHARD, mine)
        for log in (mine, Identify(), Identify(cluster_id="c"), Identify(birth_id="b")):
            assert await ledger.identify(SHARD, log) == first
        other = await ledger.identify(SHARD, Identify(cluster_id="c", birth_id="x"))

        assert (first.ready, first.booked) == (True, -1)
        assert (other.ready, other.why) == (False, "another log")
        with pytest.raises(LedgerNotReady):
            await ledger.admit(request("r1"))

    async def test_a_log_that_ends_below_what_is_booked_closes_its_shard(
        self, ledger: LedgerClient
    ) -> None:
        """But not one that has grown since it was read, of which more is booked by now."""
        row = OutcomeRow(offset=4, at_ms=T0_MS, req="r1", deadline_ms=DEADLINE_MS)
        await ledger.book(Book(org="acme", partition=SHARD, rows=(row,)))
        grown = await ledger.identify(SHARD, Identify(booked=2, end=3))
        whole = await ledger.identify(SHARD, Identify(booked=4, end=5, committed=5))
        shorter = await ledger.identify(SHARD, Identify(booked=4, end=4))

        assert (grown.ready, whole.ready, whole.booked) == (True, True, 4)
        assert (shorter.ready, shorter.why) == (False, "log lost its end")

    async def test_a_shard_that_lacks_what_was_booked_is_closed(self, ledger: LedgerClient) -> None:
        """The group goes on behind an outcome that is not booked here; a new shard has booked none."""
        new = await ledger.identify(SHARD, Identify(end=7, committed=6))
        row = OutcomeRow(offset=4, at_ms=T0_MS, req="r1", deadline_ms=DEADLINE_MS)
        await ledger.book(Book(org="acme", partition=SHARD, rows=(row,)))
        behind = await ledger.identify(SHARD, Identify(booked=4, end=7, committed=6))

        assert new.ready
        assert (behind.ready, behind.why) == (False, "behind")

    async def test_racing_requests_take_exactly_the_budget(self, ledger: LedgerClient) -> None:
        """A budget for 100 admits 100 of 500 concurrent requests, and the rest could fit later."""
        racing = (ledger.admit(request(f"r{n}", budget(10, limit=1_000))) for n in range(500))
        verdicts = await asyncio.gather(*racing)

        assert sum(isinstance(verdict, answers.Admitted) for verdict in verdicts) == 100
        assert sum(isinstance(verdict, answers.Contended) for verdict in verdicts) == 400

    async def test_money_beyond_fourteen_digits_stays_exact(self, ledger: LedgerClient) -> None:
        """An amount near 2^53 comes back to the last digit, spent or held."""
        fence = await running(ledger, "r1", budget(LARGEST, limit=LARGEST + 1))
        await ledger.finish(finish("r1", fence, LARGEST), b"outcome")
        refused = await ledger.admit(request("r2", budget(2, limit=LARGEST + 1)))

        assert isinstance(refused, answers.Refused)
        assert (refused.usage, refused.limit) == (LARGEST, LARGEST + 1)

    async def test_the_hint_of_a_rate_is_honest(self, ledger: LedgerClient) -> None:
        """Waiting as long as told is enough, and a millisecond less is not."""
        rate = Rate(key="r:org:rps", id="rps", cost=1, burst=2, rate_milli_per_s=10_000)
        burst = [request(f"r{n}", rates=(rate,)) for n in range(3)]
        *admitted, limited = await ledger.admit_many(burst)
        assert all(isinstance(each, answers.Admitted) for each in admitted)
        assert isinstance(limited, answers.Limited)
        then_ms = T0_MS + limited.retry_after_ms

        early = await ledger.admit(request("early", rates=(rate,), at_ms=then_ms - 1))
        in_time = await ledger.admit(request("in-time", rates=(rate,), at_ms=then_ms))
        assert isinstance(early, answers.Limited)
        assert isinstance(in_time, answers.Admitted)

    async def test_a_place_is_free_again_with_its_request(self, ledger: LedgerClient) -> None:
        """A concurrency limit counts what runs."""
        lease = Lease(key="c:x", id="x", limit=1)
        await ledger.admit(request("r1", leases=(lease,)))
        crowded = await ledger.admit(request("r2", leases=(lease,)))
        await ledger.cancel(Cancel(org="acme", req="r1", deadline_ms=DEADLINE_MS))

        assert isinstance(crowded, answers.Limited)
        assert isinstance(await ledger.admit(request("r3", leases=(lease,))), answers.Admitted)

    async def test_a_copy_is_told_what_was_decided(self, ledger: LedgerClient) -> None:
        """With the terms under which it was."""
        await ledger.admit(request("r1", budget(10, limit=10), terms="price 7"))
        copy = await ledger.admit(request("r1", budget(99, limit=10), terms="price 8"))

        assert copy == answers.Duplicate(
            answer=answers.Admitted(), state="RESERVED", terms="price 7"
        )

    async def test_an_outcome_comes_back_as_it_went(self, ledger: LedgerClient) -> None:
        """Every byte of it, to whoever starts or finishes the request again."""
        outcome = bytes(range(256))
        fence = await running(ledger, "r1", budget(10))
        assert await ledger.finish(finish("r1", fence, 7), outcome) == answers.Ok()

        again = await ledger.finish(finish("r1", fence, 7), b"another")
        assert again == answers.Repeated(outcome=outcome)
        assert await ledger.start(start("r1")) == answers.Finished(outcome=outcome)
        assert await ledger.look(Look(org="acme", req="r1")) == answers.Look(
            state="FINISHED", outcome=outcome
        )

    async def test_a_running_request_is_busy_until_its_lease_ends(
        self, ledger: LedgerClient
    ) -> None:
        """Renewed it is longer; its successor fences it off."""
        fence = await running(ledger, "r1", budget(10))
        renewal = Renew(org="acme", req="r1", fence=fence, lease_ms=LEASE_MS)
        await ledger.renew(replace_time(renewal, T0_MS + 10_000))
        busy = await ledger.start(start("r1", at_ms=T0_MS + 20_000, owner="d2"))
        later_ms = T0_MS + 10_000 + LEASE_MS
        # The ledger is looked at meanwhile, or the gap would count as an outage, which ends no lease.
        for at_ms in range(T0_MS, later_ms + 1, 5_000):
            await ledger.reap(SHARD, Reap(limit=10, now_us=at_ms * 1_000))
        second = start("r1", at_ms=later_ms, owner="d2", second_attempt=(budget(10),))
        successor = await ledger.start(second)

        assert isinstance(busy, answers.Busy)
        assert (busy.owner, busy.ms) == ("d1", 5_000)
        assert isinstance(successor, answers.Fence)
        assert (successor.attempt, successor.fence > fence) == (2, True)
        late = await ledger.finish(finish("r1", fence, 1), b"late")
        assert late == answers.Stale(written_off=(1,))

    async def test_a_failover_moves_what_cannot_have_been_spent(self, ledger: LedgerClient) -> None:
        """Room for one hold is enough for the second attempt."""
        fence = await running(ledger, "r1", budget(10, limit=10))
        moved = NextAttempt(
            org="acme",
            req="r1",
            fence=fence,
            may_have_spent=False,
            second=(budget(10, limit=10),),
            now_us=T0_MS * 1_000,
        )
        second = await ledger.next_attempt(moved)

        assert isinstance(second, answers.Fence)
        assert second.attempt == 2
        assert await ledger.next_attempt(moved) == second

    async def test_a_cancellation_that_comes_first_wins(self, ledger: LedgerClient) -> None:
        """A tombstone stands in the way of the request it names."""
        await ledger.cancel(Cancel(org="acme", req="r1", deadline_ms=DEADLINE_MS))

        assert await ledger.admit(request("r1", budget(1))) == answers.Cancelled()

    async def test_a_cancellation_of_what_runs_reaches_its_owner(
        self, ledger: LedgerClient
    ) -> None:
        """With its next renewal."""
        fence = await running(ledger, "r1", budget(10))
        told = await ledger.cancel(Cancel(org="acme", req="r1", deadline_ms=DEADLINE_MS))
        renewal = Renew(org="acme", req="r1", fence=fence, lease_ms=LEASE_MS)

        assert told == answers.Running(owner="d1")
        assert await ledger.renew(replace_time(renewal, T0_MS + 1)) == answers.Cancelled()

    async def test_a_forgotten_request_takes_its_hold_again(self, ledger: LedgerClient) -> None:
        """What a ledger does not know is gone, or comes with all that admission had left."""
        hold = Readmission(deadline_ms=DEADLINE_MS, accepted_ms=T0_MS, balances=(budget(10),))
        gone = await ledger.start(start("r1"))
        again = await ledger.start(start("r1", readmit=hold))

        assert gone == answers.Gone()
        assert isinstance(again, answers.Fence)
        assert await ledger.look(Look(org="acme", req="r1")) == answers.Look(state="RUNNING")

    async def test_what_nobody_starts_is_voided_and_its_hold_returns(
        self, ledger: LedgerClient
    ) -> None:
        """Listed until it is confirmed."""
        await ledger.admit(request("r1", budget(10, limit=10)))
        # Looked at regularly: after a gap everybody gets time to come back first.
        for at_ms in range(T0_MS, DEADLINE_MS + 60_001, 5_000):
            listed = await ledger.reap(SHARD, Reap(limit=10, now_us=at_ms * 1_000))
            if listed.entries:
                break
        await ledger.reaped(SHARD, Reaped(entries=(ReapedRequest(org="acme", req="r1"),)))

        assert [(entry.req, entry.verdict) for entry in listed.entries] == [("r1", "VOIDED")]
        assert isinstance(await ledger.admit(request("r2", budget(10, limit=10))), answers.Admitted)

    async def test_a_key_is_held_by_the_first_request(self, ledger: LedgerClient) -> None:
        """The second joins it, another body is told so, and given back it is free."""
        assert isinstance(await ledger.claim(claim("r1")), answers.Claimed)
        await ledger.admit(request("r1", budget(1)))
        held = await ledger.claim(claim("r2"))
        mismatch = await ledger.claim(claim("r3", fingerprint="g"))
        await ledger.release(Release(org="acme", req="r1", key_hash="k"))

        assert held == answers.Held(req="r1", state="RESERVED", deadline_ms=DEADLINE_MS)
        assert mismatch == answers.Mismatch()
        assert isinstance(await ledger.claim(claim("r4")), answers.Claimed)

    async def test_the_oldest_key_says_when_there_is_room_for_another(
        self, ledger: LedgerClient
    ) -> None:
        """By the hour in which it was claimed, wherever the clock has gone since."""
        hour_ms = T0_MS // HOUR_MS * HOUR_MS
        await ledger.claim(claim("r1", at_ms=hour_ms + 1))
        before_ms = hour_ms - 600_000
        full = await ledger.claim(claim("r2", at_ms=before_ms, key="another", limit=1))

        assert isinstance(full, answers.Limited)
        kept_ms = FULL.ledger.claim_kept_ms
        assert full.retry_after_ms == hour_ms + HOUR_MS + kept_ms - before_ms

    async def test_jobs_are_listed_newest_first(self, ledger: LedgerClient) -> None:
        """In pages, as many as may be remembered."""
        for n in range(3):
            await ledger.job(job(f"j{n}", n, limit=3))
        first = await ledger.jobs(ListJobs(org="acme", limit=2))
        rest = await ledger.jobs(ListJobs(org="acme", limit=2, after="j1"))

        assert ([entry.req for entry in first.entries], first.more) == (["j2", "j1"], True)
        assert ([entry.req for entry in rest.entries], rest.more) == (["j0"], False)
        assert isinstance(await ledger.job(job("j3", 3, limit=3)), answers.Limited)

    async def test_a_copy_in_the_log_is_booked_once(self, ledger: LedgerClient) -> None:
        """At whatever offset it stands; what was booked has no second life."""
        fence = await running(ledger, "r1", budget(10))
        await ledger.finish(finish("r1", fence, 7), b"outcome")
        first = await ledger.book(Book(org="acme", partition=0, rows=(row(0),)))
        again = await ledger.book(Book(org="acme", partition=0, rows=(row(0), row(1))))

        assert first == answers.Booked(rows=("BOOKED",), offset=0)
        assert again == answers.Booked(rows=("SEEN", "DUPLICATE"), offset=1)
        assert await ledger.start(start("r1")) == answers.Finished(booked="0:0")


def replace_time(renewal: Renew, at_ms: int) -> Renew:
    """The same renewal at another time."""
    return Renew(
        org=renewal.org,
        req=renewal.req,
        fence=renewal.fence,
        lease_ms=renewal.lease_ms,
        now_us=at_ms * 1_000,
    )


def job(req: str, created_ms: int, *, limit: int) -> Job:
    """A job that was made at a time of its own."""
    return Job(
        org="acme",
        req=req,
        created_ms=T0_MS + created_ms,
        info=req,
        limit=limit,
        now_us=T0_MS * 1_000,
    )


def row(offset: int) -> OutcomeRow:
    """The outcome of the request in the log."""
    return OutcomeRow(
        offset=offset,
        at_ms=T0_MS,
        req="r1",
        deadline_ms=DEADLINE_MS,
        bookings=(Booking(key=MONTH, unit="nano_usd", amount=7),),
    )
