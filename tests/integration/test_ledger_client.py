"""The ledger client against a real Valkey: races, rebirths, outages, and what lives how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from schemas.ledger import answers, keys
from schemas.ledger.documents import (
    Admit,
    Balance,
    Book,
    Booking,
    Cancel,
    Finish,
    Lease,
    OutcomeRow,
    Rate,
    Readmission,
    Reap,
    Start,
    TakeSnapshot,
    UsageLine,
)
from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.valkey.store import Store
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD

DAY_MS = 86_400_000
MONTH = keys.balance_suffix("org:acme", "month:2026-11")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def budget(amount: int, limit: int | None = None) -> Balance:
    """A hold on the month that is running now."""
    now = now_ms()
    return Balance(
        key=MONTH,
        id="org:budget:month",
        unit="nano_usd",
        amount=amount,
        limit=limit,
        start_ms=now - DAY_MS,
        end_ms=now + DAY_MS,
    )


def request(
    req: str,
    *balances: Balance,
    rates: tuple[Rate, ...] = (),
    leases: tuple[Lease, ...] = (),
    deadline_in_ms: int = 60_000,
) -> Admit:
    now = now_ms()
    return Admit(
        org="acme",
        req=req,
        deadline_ms=now + deadline_in_ms,
        accepted_ms=now,
        balances=balances,
        rates=rates,
        leases=leases,
    )


def claim(req: str, readmit: Readmission | None = None) -> Start:
    return Start(org="acme", req=req, owner="dispatcher-0", lease_ms=15_000, readmit=readmit)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LedgerServer]:
    """A running server with an empty store of its own."""
    server = LedgerServer(tmp_path / "ledger")
    server.start()
    yield server
    server.kill()


@pytest_asyncio.fixture
async def redis(server: LedgerServer) -> AsyncIterator[Redis]:
    """A connection beside the ledger client's own."""
    client = Redis.from_url(server.url)
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def store(server: LedgerServer) -> AsyncIterator[Store]:
    """The connection of the ledger client."""
    connection = ledger_store(server.url)
    await connection.start()
    yield connection
    await connection.stop()


@pytest_asyncio.fixture
async def ledger(store: Store) -> LedgerClient:
    """A client of an initialised ledger."""
    client = LedgerClient(store, ONE_SHARD)
    await client.init(SHARD)
    return client


async def reaches(store: Store, *, connected: bool) -> None:
    """Returns once the connection is up, or is known to be down."""
    async with asyncio.timeout(10):
        while store.connected != connected:  # noqa: ASYNC110  # connections have no event
            await asyncio.sleep(0.02)


async def test_a_batch_and_single_calls_see_one_order(ledger: LedgerClient) -> None:
    """Two batches that race for one budget share it without a gap."""
    batches = [[request(f"{b}-{n}", budget(10, limit=500)) for n in range(40)] for b in "ab"]
    verdicts = await asyncio.gather(*(ledger.admit_many(batch) for batch in batches))
    admitted = [v for batch in verdicts for v in batch if isinstance(v, answers.Admitted)]
    assert len(admitted) == 50


async def test_the_retry_hint_of_a_rate_is_honest(ledger: LedgerClient) -> None:
    """Waiting as long as told is enough, and the hint is no longer than the emission interval."""
    rate = Rate(key="r:org:rps", id="rps", cost=1, burst=2, rate_milli_per_s=10_000)
    verdicts = await ledger.admit_many([request(f"r{n}", rates=(rate,)) for n in range(3)])
    limited = verdicts[2]
    assert isinstance(limited, answers.Limited)
    assert 0 < limited.retry_after_ms <= 100
    await asyncio.sleep(limited.retry_after_ms / 1000)
    assert isinstance(await ledger.admit(request("r3", rates=(rate,))), answers.Admitted)


async def test_a_store_without_functions_is_unavailable_and_not_a_defect(
    ledger: LedgerClient, redis: Redis
) -> None:
    """Functions that vanished make calls fail as transient."""
    await redis.function_flush()
    with pytest.raises(LedgerUnavailable):
        await ledger.admit(request("r1"))


async def test_a_wiped_store_is_not_ready_until_somebody_rebuilds_it(
    server: LedgerServer, store: Store, ledger: LedgerClient
) -> None:
    """Lost data never turns into fresh budgets: every call fails, none initialises by itself."""
    await ledger.admit(request("r1", budget(10, limit=10)))
    server.kill()
    await reaches(store, connected=False)
    server.wipe()
    server.start()
    await reaches(store, connected=True)
    for _ in range(2):
        with pytest.raises(LedgerNotReady):
            await ledger.admit(request("r2", budget(10, limit=10)))


async def test_a_rebuilt_store_takes_the_hold_again(ledger: LedgerClient, redis: Redis) -> None:
    """A forgotten request is GONE; with its hold at hand it runs, under a higher fence."""
    await ledger.admit(request("r1", budget(10, limit=10)))
    before = await ledger.start(claim("r1"))
    await redis.flushdb()
    await redis.hset(META_KEY, mapping={"epoch": 2, "ready": 1})
    assert await ledger.start(claim("r1")) == answers.Gone()
    held = Readmission(
        balances=(budget(10, limit=10),), deadline_ms=now_ms() + 9_000, accepted_ms=now_ms()
    )
    after = await ledger.start(claim("r1", held))
    assert isinstance(before, answers.Fence)
    assert isinstance(after, answers.Fence)
    assert after.fence > before.fence
    assert isinstance(await ledger.start(claim("r2", held)), answers.Contended)


async def test_a_killed_store_keeps_every_answered_hold(
    server: LedgerServer, store: Store, ledger: LedgerClient
) -> None:
    """With AOF always, kill -9 and a restart lose nothing that was answered."""
    await ledger.admit_many([request(f"r{n}", budget(10)) for n in range(50)])
    server.kill()
    await reaches(store, connected=False)
    with pytest.raises(LedgerUnavailable):
        await ledger.admit(request("late", budget(10)))
    server.start()
    await reaches(store, connected=True)
    snapshot = await ledger.snapshot(TakeSnapshot(org="acme", balances=(MONTH,)))
    assert snapshot.balances[MONTH] == {"reserved": 500}


async def test_init_never_changes_a_ledger(ledger: LedgerClient, redis: Redis) -> None:
    """Epoch and readiness of an existing ledger stay, ready or not."""
    await redis.hset(META_KEY, mapping={"epoch": 5, "ready": 0})
    assert await ledger.init(SHARD, epoch=9) == answers.Meta(epoch=5, ready=False)


async def test_what_lives_how_long(ledger: LedgerClient, redis: Redis) -> None:
    """Attempts and refusals stay 72 h, finished ones until they are booked and as long again, tables 40
    days."""
    now, attempt = now_ms(), keys.attempt(SHARD, "acme", "r1")
    await ledger.admit(request("r1", budget(10, limit=10)))
    assert await redis.pexpiretime(attempt) == pytest.approx(now + 3 * DAY_MS, abs=5_000)
    await ledger.admit(request("r2", budget(11, limit=10)))
    refused = await redis.pexpiretime(keys.attempt(SHARD, "acme", "r2"))
    assert refused == pytest.approx(now + 3 * DAY_MS, abs=5_000)
    fence = await ledger.start(Start(org="acme", req="r1", owner="d", lease_ms=9_000))
    assert isinstance(fence, answers.Fence)
    await ledger.finish(Finish(org="acme", req="r1", fence=fence.fence), b"")
    assert await redis.pexpiretime(attempt) == -1
    row = OutcomeRow(
        offset=4,
        at_ms=now,
        req="r1",
        deadline_ms=now - DAY_MS,
        usage=(UsageLine(hour="2026-11-21T12", row="k\tu\tm\tb", measures={"requests": 1}),),
        bookings=(Booking(key=MONTH, unit="nano_usd", amount=7),),
    )
    booked = await ledger.book(Book(org="acme", partition=0, rows=(row,)))
    assert booked == answers.Booked(rows=("BOOKED",), offset=4)
    assert await redis.pexpiretime(attempt) == pytest.approx(now + 3 * DAY_MS, abs=5_000)
    for suffix in (MONTH, keys.totals_suffix(MONTH)):
        expires_ms = await redis.pexpiretime(keys.of_org(SHARD, "acme", suffix))
        assert expires_ms == pytest.approx(now + 41 * DAY_MS, abs=5_000)
    usage = keys.of_org(SHARD, "acme", keys.usage_suffix("2026-11-21T12"))
    assert await redis.pexpiretime(usage) == pytest.approx(now + 40 * DAY_MS, abs=5_000)


async def test_a_snapshot_shows_what_was_booked(ledger: LedgerClient) -> None:
    """Offsets, usage, balances and totals are read together; what is absent is empty."""
    row = OutcomeRow(
        offset=9,
        at_ms=now_ms(),
        req="r1",
        deadline_ms=now_ms(),
        usage=(UsageLine(hour="2026-11-21T12", row="k\tu\tm\tb", measures={"requests": 1}),),
        bookings=(Booking(key=MONTH, unit="nano_usd", amount=2**52 + 1),),
    )
    await ledger.book(Book(org="acme", partition=2, rows=(row,)))
    hours = ("2026-11-21T12", "2026-11-21T13")
    snapshot = await ledger.snapshot(TakeSnapshot(org="acme", hours=hours, balances=(MONTH,)))
    assert snapshot == answers.Snapshot(
        offsets={2: 9},
        usage={"2026-11-21T12": {"k\tu\tm\tb\trequests": 1}, "2026-11-21T13": {}},
        balances={MONTH: {"settled": 2**52 + 1, "late": 2**52 + 1}},
        totals={MONTH: {"settled": 2**52 + 1, "late": 2**52 + 1}},
        epoch=1,
    )


async def test_a_request_never_started_is_voided_and_its_hold_returns(
    ledger: LedgerClient,
) -> None:
    """Reap works on the server's own clock, and a cancelled request is not listed."""
    await ledger.admit(request("r1", budget(10, limit=20), deadline_in_ms=30))
    await ledger.admit(request("r2", budget(10, limit=20), deadline_in_ms=30))
    cancel = Cancel(org="acme", req="r2", deadline_ms=now_ms() + 30)
    assert await ledger.cancel(cancel) == answers.Ok()
    await asyncio.sleep(0.05)
    listed = await ledger.reap(SHARD, Reap(limit=10))
    assert [(entry.req, entry.verdict) for entry in listed.entries] == [("r1", "VOIDED")]
    snapshot = await ledger.snapshot(TakeSnapshot(org="acme", balances=(MONTH,)))
    assert snapshot.balances[MONTH]["reserved"] == 0
