"""A ledger at its maxmemory, on a real Valkey: what runs closes, nothing new begins, it recovers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from schemas.failures import Failure
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
from schemas.ledger.errors import LedgerFull
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.valkey.reports import report
from schemas.runtime.valkey.store import Store
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import ONE_SHARD, SHARD

DAY_MS = 86_400_000
MONTH = keys.balance_suffix("org", "month:2026-11")
LEASE = keys.lease_suffix("org:in_flight")
USAGE = UsageLine(hour="2026-11-21T12", row="k\tu\tm\tb", measures={"requests": 1})


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def budget(amount: int = 10) -> Balance:
    now = now_ms()
    return Balance(
        key=MONTH,
        id="org:budget:month",
        unit="nano_usd",
        amount=amount,
        limit=10**9,
        start_ms=now - DAY_MS,
        end_ms=now + DAY_MS,
    )


def request(req: str, deadline_in_ms: int = 60_000) -> Admit:
    now = now_ms()
    return Admit(
        org="acme",
        req=req,
        deadline_ms=now + deadline_in_ms,
        accepted_ms=now,
        balances=(budget(),),
        leases=(Lease(key=LEASE, id="lease", limit=1_000),),
    )


def start(req: str, readmit: Readmission | None = None) -> Start:
    return Start(org="acme", req=req, owner="d-0", lease_ms=15_000, readmit=readmit)


def claim(req: str) -> Claim:
    return Claim(
        org="acme",
        req=req,
        key_hash="k-" + req,
        fingerprint="f",
        produce_by_ms=now_ms() + 10_000,
        deadline_ms=now_ms() + 60_000,
        limit=100,
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LedgerServer]:
    """A server with room for a few megabytes."""
    server = LedgerServer(tmp_path / "ledger", maxmemory="16mb")
    server.start()
    yield server
    server.kill()


@pytest_asyncio.fixture
async def redis(server: LedgerServer) -> AsyncIterator[Redis]:
    async with Redis(port=server.port) as client:
        yield client


@pytest_asyncio.fixture
async def store(server: LedgerServer) -> AsyncIterator[Store]:
    connection = ledger_store(server.url)
    await connection.start()
    yield connection
    await connection.stop()


@pytest_asyncio.fixture
async def ledger(store: Store) -> LedgerClient:
    client = LedgerClient(store, ONE_SHARD)
    await client.init(SHARD)
    return client


async def fill(redis: Redis, ttl_ms: int) -> None:
    """Write until the server refuses the smallest value; what was written expires by itself."""
    for size in (20_000, 500, 10):
        refused, n = 0, 0
        while refused < 3:
            try:
                await redis.set(f"filler:{size}:{n}", b"x" * size, px=ttl_ms)
            except OutOfMemoryError:
                refused += 1
            n += 1


async def is_refused(ledger: LedgerClient, req: str) -> bool:
    (answer,) = await ledger.admit_many([request(req)])
    return isinstance(answer, LedgerFull)


async def begin(ledger: LedgerClient, *requests: str) -> dict[str, int]:
    """Admit and start requests; their fences."""
    fences = {}
    for req in requests:
        assert isinstance(await ledger.admit(request(req)), answers.Admitted)
        fence = await ledger.start(start(req))
        assert isinstance(fence, answers.Fence)
        fences[req] = fence.fence
    return fences


async def held(ledger: LedgerClient, redis: Redis) -> tuple[int, int]:
    """Money on hold, and places taken."""
    snapshot = await ledger.snapshot(TakeSnapshot(org="acme", balances=(MONTH,)))
    leases = await redis.zcard(keys.of_org(SHARD, "acme", LEASE))
    return snapshot.balances[MONTH]["reserved"], leases


async def test_a_full_ledger_takes_nothing_new_and_recovers_by_itself(
    ledger: LedgerClient, redis: Redis
) -> None:
    """Admissions, readmissions, keys and jobs are refused as transient until something expires."""
    await fill(redis, ttl_ms=1_500)
    late = Readmission(deadline_ms=now_ms() + 60_000, accepted_ms=now_ms(), balances=(budget(),))

    with pytest.raises(LedgerFull):
        await ledger.start(start("unknown", late))
    with pytest.raises(LedgerFull):
        await ledger.claim(claim("new"))
    with pytest.raises(LedgerFull):
        await ledger.job(Job(org="acme", req="new", created_ms=now_ms(), info="{}", limit=10_000))
    assert await is_refused(ledger, "new")

    deadline_s = time.monotonic() + 10
    while await is_refused(ledger, "new"):
        assert time.monotonic() < deadline_s
    assert isinstance(await ledger.start(start("new")), answers.Fence)


async def test_what_was_admitted_runs_and_finishes_while_the_ledger_is_full(
    ledger: LedgerClient, redis: Redis
) -> None:
    """Start, heartbeat, failover, finish and booking work, and all holds return."""
    fences = await begin(ledger, "runs", "fails over")
    await ledger.admit(request("waits"))
    await fill(redis, ttl_ms=60_000)

    waiting = await ledger.start(start("waits"))
    renew = Renew(org="acme", req="runs", fence=fences["runs"], lease_ms=9_000, streamed=True)
    assert await ledger.renew(renew) == answers.Ok()
    failover = NextAttempt(
        org="acme",
        req="fails over",
        fence=fences["fails over"],
        may_have_spent=False,
        second=(budget(),),
    )
    moved = await ledger.next_attempt(failover)
    assert isinstance(waiting, answers.Fence)
    assert isinstance(moved, answers.Fence)
    ended = {"runs": fences["runs"], "waits": waiting.fence, "fails over": moved.fence}
    for req, fence in ended.items():
        finish = Finish(org="acme", req=req, fence=fence, actual={"nano_usd": 3})
        assert await ledger.finish(finish, b"x" * 4_096) == answers.Ok()
    booking = Booking(key=MONTH, unit="nano_usd", amount=3)
    rows = tuple(
        OutcomeRow(
            offset=n,
            at_ms=now_ms(),
            req=req,
            deadline_ms=now_ms(),
            usage=(USAGE,),
            bookings=(booking,),
        )
        for n, req in enumerate(ended)
    )
    booked = await ledger.book(Book(org="acme", partition=0, rows=rows))

    assert booked.rows == ("BOOKED", "BOOKED", "BOOKED")
    assert await held(ledger, redis) == (0, 0)
    assert await is_refused(ledger, "new")


async def test_what_is_given_up_returns_its_hold_while_the_ledger_is_full(
    ledger: LedgerClient, redis: Redis
) -> None:
    """Cancelled, expired and abandoned requests, keys and corrections."""
    await begin(ledger, "vanishes")
    await ledger.admit(request("is cancelled"))
    await ledger.admit(request("expires", deadline_in_ms=30))
    await ledger.claim(claim("expires"))
    await redis.hset(keys.attempt(SHARD, "acme", "vanishes"), "lease_until_ms", "0")
    await fill(redis, ttl_ms=60_000)

    for req in ("is cancelled", "never seen"):
        cancel = Cancel(org="acme", req=req, deadline_ms=now_ms() + 60_000)
        assert await ledger.cancel(cancel) == answers.Ok()
    assert isinstance(await ledger.start(start("vanishes")), answers.Unknown)
    listed = await ledger.reap(SHARD, Reap(limit=10))
    told = tuple(ReapedRequest(org=entry.org, req=entry.req) for entry in listed.entries)
    assert await ledger.reaped(SHARD, Reaped(entries=told)) == answers.Ok()
    release = Release(org="acme", req="expires", key_hash="k-expires")
    assert await ledger.release(release) == answers.Ok()
    estimate = Booking(key=MONTH, unit="nano_usd", amount=-10)
    correction = OutcomeRow(
        offset=1,
        at_ms=now_ms(),
        req="vanishes",
        deadline_ms=now_ms(),
        ref="1",
        bookings=(estimate,),
    )
    booked = await ledger.book(Book(org="acme", partition=0, rows=(correction,)))
    assert booked.rows == ("BOOKED",)

    assert {entry.req for entry in listed.entries} == {"expires", "vanishes"}
    assert await held(ledger, redis) == (0, 0)
    assert (await ledger.look(Look(org="acme", req="expires"))).state == "VOIDED"
    assert (await ledger.jobs(ListJobs(org="acme", limit=1))).entries == ()


async def test_whoever_reconnects_to_a_full_ledger_can_close_on_it(
    server: LedgerServer, ledger: LedgerClient, redis: Redis
) -> None:
    """Functions cannot be loaded into a full store; those that are there serve."""
    await ledger.admit(request("runs"))
    fence = await ledger.start(start("runs"))
    assert isinstance(fence, answers.Fence)
    await fill(redis, ttl_ms=60_000)
    again = ledger_store(server.url)
    await again.start()
    finish = Finish(org="acme", req="runs", fence=fence.fence)
    assert await LedgerClient(again, ONE_SHARD).finish(finish, b"") == answers.Ok()
    await again.stop()


async def test_one_refused_admission_of_a_group_is_its_own(
    ledger: LedgerClient, redis: Redis
) -> None:
    """Each of a group is told for itself that the store is full."""
    await ledger.admit(request("known"))
    await fill(redis, ttl_ms=60_000)
    found = await ledger.admit_many([request("new"), request("known")])
    assert [isinstance(each, Failure) for each in found] == [True, True]


async def test_processes_are_seen_alive_while_the_ledger_is_full(
    store: Store, redis: Redis
) -> None:
    """A plain write of the same line is refused."""
    await redis.config_set("maxmemory", "1mb")
    with pytest.raises(OutOfMemoryError):
        await redis.hset(keys.CONFIG_APPLIED, "limiter-0", "limiter 7 1")
    await report(store, keys.CONFIG_APPLIED, "limiter-0", "limiter_worker 7 1", "b", "c")

    assert await redis.hgetall(keys.CONFIG_APPLIED) == {
        b"limiter-0": b"limiter_worker 7 1",
        b"b": b"c",
    }
