"""The Lua ledger on a real Valkey and the Python model agree, whatever happens in whatever order.

After every call the answers and the whole state are compared, and the books are checked: no
overspend, and reserved amounts are exactly the open holds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from schemas.runtime.ledger import calls
from schemas.runtime.ledger.calls import Call
from schemas.runtime.ledger.documents import (
    Admit,
    Balance,
    Book,
    Booking,
    Cancel,
    Claim,
    Decline,
    Finish,
    Job,
    Lease,
    ListJobs,
    ListUnbooked,
    Look,
    NextAttempt,
    OutcomeRow,
    Rate,
    RateUse,
    Readmission,
    Reap,
    Reaped,
    ReapedRequest,
    Release,
    Renew,
    Start,
    TakeSnapshot,
    UsageLine,
)
from schemas.runtime.ledger.model import LedgerModel
from schemas.runtime.ledger.script import library
from tests.integration.ledger_server import LedgerServer
from tests.integration.ledger_state import (
    FLOWS,
    Store,
    modelled_state,
    nonzero,
    stored_state,
)

A = TypeVar("A")

# Far ahead of real time, so that no expiry strikes while a test runs.
BASE_MS = 4_000_000_000_000
PERIOD_MS = 60_000
EPOCH = 7
SCOPES = [("acme", f"r{n}") for n in range(8)] + [("a|b", f"r{n}") for n in range(2)]
LIMITS = {"b:org:month": 1_000, "b:key:total": 60, "b:model:month": None}
BURSTS = {"r:rps": 3, "r:tpm": 400}

# Which request a call is about: mostly one in the state that the call is meant for.
choice = st.integers(0, 15)
owner = st.sampled_from(("d1", "d2"))
lease_ms = st.sampled_from((100, 10_000))
amount = st.sampled_from((0, 10, 20, 30))
spent = st.sampled_from((0, 10, 11, 29, 250, 501))


@st.composite
def balance_lists(draw: st.DrawFn, key_count: int = 3) -> tuple[Balance, ...]:
    """Up to three balances, of different units, limits and periods."""
    usd = Balance(
        key="b:org:month",
        id="month",
        unit="nano_usd",
        amount=draw(st.sampled_from((0, 100, 250, 500, 501))),
        limit=LIMITS["b:org:month"],
        start_ms=BASE_MS,
        end_ms=BASE_MS + PERIOD_MS,
    )
    tokens = Balance(
        key="b:key:total",
        id="total",
        unit="tokens",
        amount=draw(amount),
        limit=LIMITS["b:key:total"],
        start_ms=0,
    )
    tracked = Balance(
        key="b:model:month", unit="requests", amount=1, start_ms=0, end_ms=BASE_MS + 10**9
    )
    return draw(st.sampled_from(((usd, tokens, tracked), (tokens, tracked), (usd,), ())))


@st.composite
def rate_lists(draw: st.DrawFn) -> tuple[Rate, ...]:
    """None, one or both of two buckets, sometimes with a cost above the capacity."""
    costs = {"r:rps": draw(st.integers(1, 2)), "r:tpm": draw(st.sampled_from((0, 1, 33, 100, 401)))}
    names = draw(st.sampled_from(((), (), ("r:rps",), ("r:tpm",), ("r:rps", "r:tpm"))))
    return tuple(
        Rate(key=n, id=n, cost=costs[n], burst=BURSTS[n], rate_milli_per_s=FLOWS[n]) for n in names
    )


class LedgerComparison(RuleBasedStateMachine):
    """One example: the same calls on both ledgers."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.store.flushdb()
        self.store.hset("meta", mapping={"epoch": EPOCH, "ready": 1, "test_clock": 1})
        self.model = LedgerModel(EPOCH)
        self.now_us = BASE_MS * 1000
        self.offset = 0

    def call(self, call: Call[A]) -> A:
        return call.decode(self.store.execute_command(*call.command))

    def pick(self, choice: int, *states: str) -> tuple[str, str]:
        """A request in one of the states if there is one, but any request now and then."""
        fitting = [
            scope
            for scope in SCOPES
            if (attempt := self.model.attempts.get(scope)) and attempt.state in states
        ]
        among = fitting if fitting and choice < 13 else SCOPES
        return among[choice % len(among)]

    def pick_new(self, choice: int) -> tuple[str, str]:
        """A request that was never seen, or any when all were, and now and then."""
        unseen = [scope for scope in SCOPES if scope not in self.model.attempts]
        among = unseen if unseen and choice < 13 else SCOPES
        return among[choice % len(among)]

    def fence(self, org: str, req: str, age: int) -> int:
        """The current fence of a request, or an older or later one."""
        attempt = self.model.attempts.get((org, req))
        return (attempt.fence if attempt else 1) - age

    @rule(
        ms=st.sampled_from((0, 0, 1, 1, 100, 333, 9_900, 31_000, 31_000_000)),
        us=st.integers(0, 999),
    )
    def time_passes(self, ms: int, us: int) -> None:
        self.now_us += ms * 1000 + us

    @rule(ms=st.sampled_from([2_000, 11_000, 600_000]))
    def set_back(self, ms: int) -> None:
        """The store's clock was wrong, and is put right."""
        self.now_us -= ms * 1000

    @rule(
        choice=choice,
        rates=rate_lists(),
        balances=balance_lists(),
        is_leased=st.booleans(),
        defer=st.booleans(),
        waits_for=st.sampled_from(((), (), ("lease",), ("r:rps", "lease"))),
        decline=st.sampled_from((None, None, None, Decline(why="overloaded"), Decline(why="late"))),
        incarnation_ms=st.integers(0, 3),
        deadline_in_ms=st.sampled_from((-1, 100, 10_000, 60_000, 60_000, 60_000)),
    )
    def admit(
        self,
        choice: int,
        rates: tuple[Rate, ...],
        balances: tuple[Balance, ...],
        is_leased: bool,
        defer: bool,
        waits_for: tuple[str, ...],
        decline: Decline | None,
        incarnation_ms: int,
        deadline_in_ms: int,
    ) -> None:
        org, req = self.pick_new(choice)
        doc = Admit(
            org=org,
            req=req,
            deadline_ms=self.now_us // 1000 + deadline_in_ms,
            accepted_ms=self.now_us // 1000,
            rates=rates,
            leases=(Lease(key="c:key", id="lease", limit=2),) if is_leased else (),
            balances=balances,
            defer=defer,
            waits_for=waits_for,
            decline=decline,
            incarnation_ms=incarnation_ms,
            terms='{"ü": "\\\\"}',
            info="ü\t|{}",
            now_us=self.now_us,
        )
        assert self.call(calls.admit(doc)) == self.model.admit(doc, self.now_us)

    @rule(
        choice=choice,
        owner=owner,
        lease_ms=lease_ms,
        second=st.none() | balance_lists(),
        again=st.none() | balance_lists(),
        deadline_in_ms=st.sampled_from((0, 30_000)),
    )
    def start(
        self,
        choice: int,
        owner: str,
        lease_ms: int,
        second: tuple[Balance, ...] | None,
        again: tuple[Balance, ...] | None,
        deadline_in_ms: int,
    ) -> None:
        org, req = self.pick(choice, "RESERVED", "RUNNING")
        readmit = None
        if again is not None:
            readmit = Readmission(
                balances=again,
                leases=(Lease(key="c:key"),),
                deadline_ms=self.now_us // 1000 + deadline_in_ms,
                accepted_ms=self.now_us // 1000,
                info="again",
            )
        doc = Start(
            org=org,
            req=req,
            owner=owner,
            lease_ms=lease_ms,
            second_attempt=second,
            readmit=readmit,
            now_us=self.now_us,
        )
        assert self.call(calls.start(doc)) == self.model.start(doc, self.now_us)

    @rule(choice=choice, balances=balance_lists(), lease_ms=lease_ms, streamed=st.booleans())
    def begin(
        self, choice: int, balances: tuple[Balance, ...], lease_ms: int, streamed: bool
    ) -> None:
        """Admits, starts and renews one request, so that deep states are reached often."""
        org, req = self.pick_new(choice)
        now_ms = self.now_us // 1000
        admit = Admit(
            org=org,
            req=req,
            deadline_ms=now_ms + 60_000,
            accepted_ms=now_ms,
            balances=balances,
            now_us=self.now_us,
        )
        assert self.call(calls.admit(admit)) == self.model.admit(admit, self.now_us)
        self.start_now(org, req, "d1", None, lease_ms)
        renew = Renew(
            org=org,
            req=req,
            fence=self.fence(org, req, 0),
            lease_ms=lease_ms,
            streamed=streamed,
            now_us=self.now_us,
        )
        assert self.call(calls.renew(renew)) == self.model.renew(renew, self.now_us)

    @rule(choice=choice, second=st.none() | balance_lists())
    def take_over(self, choice: int, second: tuple[Balance, ...] | None) -> None:
        """Somebody else starts a running request at the instant its lease ends."""
        org, req = self.pick(choice, "RUNNING")
        attempt = self.model.attempts.get((org, req))
        if attempt and attempt.lease_until_ms < self.now_us // 1000 + 15_000:
            self.now_us = max(self.now_us, attempt.lease_until_ms * 1000)
        self.start_now(org, req, "d2", second, 10_000)

    def start_now(
        self,
        org: str,
        req: str,
        owner: str,
        second: tuple[Balance, ...] | None,
        lease_ms: int,
    ) -> None:
        doc = Start(
            org=org,
            req=req,
            owner=owner,
            lease_ms=lease_ms,
            second_attempt=second,
            now_us=self.now_us,
        )
        assert self.call(calls.start(doc)) == self.model.start(doc, self.now_us)

    @rule(
        choice=choice,
        age=st.sampled_from((0, 0, 0, 1, -1)),
        may_have_spent=st.booleans(),
        second=balance_lists(),
        estimate=st.dictionaries(st.sampled_from(("nano_usd", "tokens")), spent),
        times=st.integers(1, 2),
    )
    def next_attempt(
        self,
        choice: int,
        age: int,
        may_have_spent: bool,
        second: tuple[Balance, ...],
        estimate: dict[Any, int],
        times: int,
    ) -> None:
        org, req = self.pick(choice, "RUNNING")
        doc = NextAttempt(
            org=org,
            req=req,
            fence=self.fence(org, req, age),
            may_have_spent=may_have_spent,
            second=second,
            estimate=estimate,
            now_us=self.now_us,
        )
        for _ in range(times):
            assert self.call(calls.next_attempt(doc)) == self.model.next_attempt(doc, self.now_us)

    @rule(
        choice=choice,
        age=st.sampled_from((0, 0, 1)),
        lease_ms=lease_ms,
        streamed=st.sampled_from((False, False, True)),
    )
    def renew(self, choice: int, age: int, lease_ms: int, streamed: bool) -> None:
        org, req = self.pick(choice, "RUNNING")
        doc = Renew(
            org=org,
            req=req,
            fence=self.fence(org, req, age),
            lease_ms=lease_ms,
            streamed=streamed,
            now_us=self.now_us,
        )
        assert self.call(calls.renew(doc)) == self.model.renew(doc, self.now_us)

    @rule(
        choice=choice,
        age=st.sampled_from((0, 0, 1)),
        actual=st.dictionaries(
            st.sampled_from(("nano_usd", "tokens", "requests")),
            st.none() | spent,
        ),
        units=st.sampled_from((0, 1, 32, 500)),
        outcome=st.binary(max_size=20),
        ends=st.sampled_from((None, "[200]")),
    )
    def finish(
        self,
        choice: int,
        age: int,
        actual: dict[Any, int | None],
        units: int,
        outcome: bytes,
        ends: str | None,
    ) -> None:
        org, req = self.pick(choice, "RUNNING")
        doc = Finish(
            org=org,
            req=req,
            fence=self.fence(org, req, age),
            actual=actual,
            actual_rates=(RateUse(key="r:tpm", units=units),),
            ends=ends,
            now_us=self.now_us,
        )
        assert self.call(calls.finish(doc, outcome)) == self.model.finish(doc, outcome, self.now_us)

    @rule(choice=choice, is_new=st.booleans(), incarnation_ms=st.none() | st.integers(0, 3))
    def cancel(self, choice: int, is_new: bool, incarnation_ms: int | None) -> None:
        org, req = self.pick_new(choice) if is_new else self.pick(choice, "RESERVED", "RUNNING")
        doc = Cancel(
            org=org,
            req=req,
            deadline_ms=self.now_us // 1000 + 1_000,
            incarnation_ms=incarnation_ms,
            now_us=self.now_us,
        )
        assert self.call(calls.cancel(doc)) == self.model.cancel(doc, self.now_us)

    @rule(
        choice=choice,
        key_hash=st.sampled_from(("k1", "k2")),
        fingerprint=st.sampled_from(("f1", "f1", "f2")),
        produce_in_ms=st.sampled_from((0, 1_000)),
        deadline_in_ms=st.sampled_from((-900_000, -899_900, 60_000)),
        keys_max=st.sampled_from((1, 2, 100)),
        joins=st.booleans(),
    )
    def claim(
        self,
        choice: int,
        key_hash: str,
        fingerprint: str,
        produce_in_ms: int,
        deadline_in_ms: int,
        keys_max: int,
        joins: bool,
    ) -> None:
        org, req = self.pick_new(choice)
        now_ms = self.now_us // 1000
        doc = Claim(
            org=org,
            req=req,
            key_hash=key_hash,
            fingerprint=fingerprint,
            produce_by_ms=now_ms + produce_in_ms,
            deadline_ms=now_ms + deadline_in_ms,
            limit=keys_max,
            joins=joins,
            now_us=self.now_us,
        )
        assert self.call(calls.claim(doc)) == self.model.claim(doc, self.now_us)

    @rule(choice=choice, key_hash=st.sampled_from(("k1", "k2")), is_holder=st.booleans())
    def release(self, choice: int, key_hash: str, is_holder: bool) -> None:
        org, req = self.pick(choice)
        held = self.model.claims.held.get((org, key_hash))
        req = held.req if held and is_holder else req
        doc = Release(org=org, req=req, key_hash=key_hash)
        assert self.call(calls.release(doc)) == self.model.claims.release(doc)

    @rule(
        choice=choice,
        is_new=st.booleans(),
        limit=st.integers(1, 3),
        age_ms=st.sampled_from((0, 0, 5)),
        jobs_max=st.sampled_from((2, 4, 100)),
    )
    def make_and_list_jobs(
        self, choice: int, is_new: bool, limit: int, age_ms: int, jobs_max: int
    ) -> None:
        """Adds one, lists the pages before and after it, and looks at it."""
        org, req = self.pick_new(choice) if is_new else self.pick(choice, "FINISHED", "BOOKED")
        created_ms = self.now_us // 1000 - age_ms
        job = Job(
            org=org,
            req=req,
            created_ms=created_ms,
            info="ü{}",
            limit=jobs_max,
            now_us=self.now_us,
        )
        assert self.call(calls.job(job)) == self.model.jobs.add(job, self.now_us)
        for after in (None, req, "r99"):
            page = ListJobs(org=org, limit=limit, after=after)
            assert self.call(calls.jobs(page)) == self.model.list_jobs(page)
        look = Look(org=org, req=req)
        assert self.call(calls.look(look)) == self.model.look(look)

    @rule(limit=st.integers(1, 4), is_confirmed=st.booleans())
    def reap(self, limit: int, is_confirmed: bool) -> None:
        doc = Reap(limit=limit, now_us=self.now_us)
        listed = self.call(calls.reap(doc))
        assert listed == self.model.reap(doc, self.now_us)
        if is_confirmed:
            ended = tuple(ReapedRequest(org=entry.org, req=entry.req) for entry in listed.entries)
            confirmation = Reaped(entries=ended)
            assert self.call(calls.reaped(confirmation)) == self.model.reaped(confirmation)

    @rule(
        org=st.sampled_from(("acme", "a|b")),
        rows=st.lists(
            st.tuples(choice, st.none() | st.sampled_from(("1", "2")), st.integers(1, 2), amount),
            max_size=4,
        ),
        is_replayed=st.booleans(),
        is_first=st.sampled_from((None, None, None, True, False)),
        behind_ms=st.sampled_from((0, 0, 1_200_000)),
    )
    def book(
        self,
        org: str,
        rows: list[tuple[int, str | None, int, int]],
        is_replayed: bool,
        is_first: bool | None,
        behind_ms: int,
    ) -> None:
        """Books at the end of the log or again; the log's clock is not that of the ledger."""
        offset = 0 if is_replayed else self.offset
        records = []
        for choice, ref, step, amount in rows:
            offset += step
            usage = UsageLine(
                hour="2026-11-21T12", row="k\tu\tm\tb", measures={"requests": 1, "cost": amount}
            )
            booking = Booking(key="b:key:total", unit="tokens", amount=amount)
            records.append(
                OutcomeRow(
                    offset=offset,
                    at_ms=self.now_us // 1000 - behind_ms,
                    req=f"r{choice}",
                    ran=bool(amount),
                    is_first=is_first,
                    ref=ref,
                    ends=None if amount else "[402]",
                    deadline_ms=BASE_MS,
                    usage=(usage,),
                    bookings=(booking,),
                )
            )
        self.offset = max(offset, self.offset)
        doc = Book(org=org, partition=3, rows=tuple(records), now_us=self.now_us)
        assert self.call(calls.book(doc)) == self.model.book(doc)
        listing = ListUnbooked(until_ms=self.now_us // 1000 - behind_ms, skip=len(rows) % 2)
        assert self.call(calls.unbooked(listing)) == self.model.books.unbooked(listing)

    @invariant()
    def states_agree(self) -> None:
        """Every key of the store is what the model says, and there are no others."""
        assert stored_state(self.store, self.now_us) == modelled_state(self.model, self.now_us)

    @invariant()
    def nothing_is_overspent(self) -> None:
        """I2: settled + reserved never passes the limit but by counted late and over amounts."""
        for (_, key), balance in self.model.limits.balances.items():
            limit = LIMITS[key]
            if limit is not None:
                spent = balance["settled"] + balance["reserved"]
                assert spent <= limit + balance["over"] + balance["late"]

    @invariant()
    def reserved_is_the_sum_of_open_holds(self) -> None:
        """I3: no hold is lost, none is kept."""
        for (org, key), balance in self.model.limits.balances.items():
            held = sum(
                hold.amount
                for (owner, _), attempt in self.model.attempts.items()
                for hold in attempt.holds
                if owner == org and hold.key == key and attempt.state in ("RESERVED", "RUNNING")
            )
            assert balance["reserved"] == held


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A ledger store with the functions loaded, for this module alone."""
    server = LedgerServer(Path(tmp_path_factory.mktemp("ledger")) / "data")
    server.start()
    with redis.Redis(port=server.port) as client:
        client.function_load(library(), replace=True)
        yield client
    server.kill()


def test_lua_and_model_agree(store: Store) -> None:
    """Random calls, repeated, late and with old fences, give equal answers and equal books."""
    machine = type("Comparison", (LedgerComparison,), {"store": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=200,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_bucket_is_exact_at_any_rate(store: Store) -> None:
    """A thousand charges at awkward rates leave the very fraction that the model computes."""
    chance = random.Random(1)
    for rate_milli in (3_000, 7, 999_999_937, 33_333_333_333):
        store.flushdb()
        store.hset("meta", mapping={"epoch": 1, "ready": 1, "test_clock": 1})
        model, now_us = LedgerModel(1), BASE_MS * 1000
        for n in range(250):
            rate = Rate(
                key="r:x",
                id="x",
                cost=chance.choice((1, 3, 1_234_567, 30_000_000)),
                burst=60_000_000,
                rate_milli_per_s=rate_milli,
            )
            now_us += chance.choice((0, 1, 12_345))
            doc = Admit(
                org="acme",
                req=f"r{n}",
                deadline_ms=BASE_MS * 2,
                accepted_ms=BASE_MS,
                rates=(rate,),
                now_us=now_us,
            )
            call = calls.admit(doc)
            assert call.decode(store.execute_command(*call.command)) == model.admit(doc, now_us)


def test_the_first_attempt_is_reported_with_what_was_booked(store: Store) -> None:
    """Reap hands back what became of attempt 1, exactly as the model does."""
    store.flushdb()
    store.hset("meta", mapping={"epoch": 1, "ready": 1, "test_clock": 1})
    model, now_us = LedgerModel(1), BASE_MS * 1000
    tokens = Balance(key="b:key:total", unit="tokens", amount=9, start_ms=0)
    admit = Admit(
        org="acme",
        req="r",
        deadline_ms=BASE_MS + 1_000,
        accepted_ms=BASE_MS,
        balances=(tokens,),
        now_us=now_us,
    )
    start = Start(org="acme", req="r", owner="d1", lease_ms=100, now_us=now_us)
    failover = NextAttempt(
        org="acme",
        req="r",
        fence=2**32 + 1,
        may_have_spent=True,
        second=(tokens,),
        estimate={"tokens": 4},
        now_us=now_us,
    )
    reap = Reap(limit=10, now_us=now_us + 60_000_000)
    for call in (calls.admit(admit), calls.start(start), calls.next_attempt(failover)):
        store.execute_command(*call.command)
    model.admit(admit, now_us)
    model.start(start, now_us)
    model.next_attempt(failover, now_us)
    listed = calls.reap(reap).decode(store.execute_command(*calls.reap(reap).command))
    assert listed == model.reap(reap, now_us + 60_000_000)
    assert listed.entries[0].first is not None
    assert listed.entries[0].first.booked == (Booking(key="b:key:total", unit="tokens", amount=4),)
    snapshot = calls.snapshot(TakeSnapshot(org="acme", balances=("b:key:total",)))
    read = snapshot.decode(store.execute_command(*snapshot.command))
    assert nonzero(read.balances["b:key:total"]) == {"settled": 13}
