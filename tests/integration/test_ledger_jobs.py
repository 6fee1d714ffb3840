"""Claims and jobs on a real Valkey: races, and what lives how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from schemas.ledger import answers, keys
from schemas.ledger.documents import (
    Admit,
    Book,
    Claim,
    Finish,
    Job,
    ListJobs,
    Look,
    OutcomeRow,
    Release,
    Start,
)
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import ONE_SHARD, SHARD

DAY_MS = 86_400_000


@pytest_asyncio.fixture
async def redis(server: LedgerServer) -> AsyncIterator[Redis]:
    """A plain client on an empty store."""
    async with Redis(port=server.port) as client:
        await client.flushdb()
        yield client


@pytest_asyncio.fixture
async def ledger(server: LedgerServer, redis: Redis) -> AsyncIterator[LedgerClient]:
    """A client of a ledger that is ready."""
    store = ledger_store(server.url)
    await store.start()
    client = LedgerClient(store, ONE_SHARD)
    await client.init(SHARD)
    yield client
    await store.stop()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def claim(req: str) -> Claim:
    return Claim(
        org="acme",
        req=req,
        key_hash="k",
        fingerprint="f",
        produce_by_ms=now_ms() + 10_000,
        deadline_ms=now_ms() + 60_000,
        limit=100,
    )


async def test_of_a_hundred_racers_one_gets_the_key(ledger: LedgerClient, redis: Redis) -> None:
    """All others learn its id, and the key is kept for 24 hours."""
    found = await asyncio.gather(*(ledger.claim(claim(f"r{n}")) for n in range(100)))

    (winner,) = [answer.req for answer in found if isinstance(answer, answers.Claimed)]
    assert {answer.req for answer in found if isinstance(answer, answers.Held)} == {winner}
    left_ms = await redis.pttl(keys.idempotency(SHARD, "acme", "k"))
    assert DAY_MS - 10_000 < left_ms <= DAY_MS


async def test_an_organization_has_as_many_keys_as_are_remembered(
    ledger: LedgerClient, redis: Redis
) -> None:
    """One more is refused; one that is given back makes room, and joining one takes none."""
    wanted = [msgspec.structs.replace(claim(f"r{n}"), key_hash=f"k{n}", limit=2) for n in range(3)]
    first, _, third = [await ledger.claim(each) for each in wanted]
    joined = await ledger.claim(msgspec.structs.replace(wanted[0], req="other"))
    await ledger.release(Release(org="acme", req="r0", key_hash="k0"))
    later = await ledger.claim(wanted[2])

    assert isinstance(first, answers.Claimed)
    assert isinstance(third, answers.Limited)
    assert (third.id, third.usage, third.limit) == ("org:idempotency_keys", 2, 2)
    assert DAY_MS < third.retry_after_ms <= DAY_MS + DAY_MS // 24
    assert isinstance(joined, answers.Held)
    assert isinstance(later, answers.Claimed)
    assert await redis.hvals(keys.of_org(SHARD, "acme", "kn")) == [b"2"]


def job(req: str, created_ms: int | None = None, limit: int = 10_000) -> Job:
    at_ms = now_ms() if created_ms is None else created_ms
    return Job(org="acme", req=req, created_ms=at_ms, info="{}", limit=limit)


async def test_jobs_are_forgotten_after_three_days(ledger: LedgerClient, redis: Redis) -> None:
    """Each one expires by itself, the list is trimmed by the next job."""
    await ledger.job(job("old", now_ms() - 3 * DAY_MS - 1_000))
    await ledger.job(job("new"))

    listed = await ledger.jobs(ListJobs(org="acme", limit=10))

    assert [entry.req for entry in listed.entries] == ["new"]
    left_ms = await redis.pttl(keys.attempt(SHARD, "acme", "new"))
    assert 3 * DAY_MS - 10_000 < left_ms <= 3 * DAY_MS


async def test_the_list_of_jobs_is_bounded(ledger: LedgerClient, redis: Redis) -> None:
    """One more is refused, and told when the oldest is forgotten; one that is listed is not new."""
    now = now_ms()
    await ledger.job(job("first", now - DAY_MS, limit=2))
    await ledger.job(job("second", limit=2))
    refused = await ledger.job(job("third", limit=2))
    again = await ledger.job(job("first", now - DAY_MS, limit=2))

    assert isinstance(refused, answers.Limited)
    assert (refused.id, refused.usage, refused.limit) == ("org:jobs", 2, 2)
    assert refused.retry_after_ms == pytest.approx(2 * DAY_MS, abs=10_000)
    assert again == answers.Ok()
    assert not await redis.exists(keys.attempt(SHARD, "acme", "third"))


async def test_a_job_outlives_its_booking(ledger: LedgerClient, redis: Redis) -> None:
    """A request that is none is forgotten once the log is a quarter of an hour past its deadline."""
    await ledger.job(job("job"))
    rows = tuple(
        OutcomeRow(offset=n, at_ms=now_ms(), req=req, deadline_ms=now_ms(), ends='[402,"x"]')
        for n, req in enumerate(("job", "none"))
    )
    await ledger.book(Book(org="acme", partition=3, rows=rows))

    look = await ledger.look(Look(org="acme", req="job"))
    (listed,) = (await ledger.jobs(ListJobs(org="acme", limit=10))).entries
    assert (look.state, look.job, look.booked) == ("BOOKED", "{}", "3:0")
    assert (listed.state, listed.ends) == ("BOOKED", '[402,"x"]')
    assert await redis.pttl(keys.attempt(SHARD, "acme", "job")) > 2 * DAY_MS
    later = OutcomeRow(offset=2, at_ms=now_ms() + 900_001, req="later", deadline_ms=now_ms())
    await ledger.book(Book(org="acme", partition=3, rows=(later,)))
    assert not await redis.exists(keys.attempt(SHARD, "acme", "none"))
    assert await redis.exists(keys.attempt(SHARD, "acme", "job"))
    assert not await redis.hexists(keys.attempt(SHARD, "acme", "none"), "ends")


async def test_a_booked_request_keeps_no_outcome_and_no_hold(
    ledger: LedgerClient, redis: Redis
) -> None:
    """Only what a late finish, a copy of its outcome or a lookup still asks for."""
    deadline_ms = now_ms() + 60_000
    admit = Admit(org="acme", req="r", deadline_ms=deadline_ms, accepted_ms=1, info="x" * 200)
    await ledger.admit(admit)
    fence = await ledger.start(Start(org="acme", req="r", owner="d", lease_ms=9_000))
    assert isinstance(fence, answers.Fence)
    finish = Finish(org="acme", req="r", fence=fence.fence)
    await ledger.finish(finish, b"o" * 4_096)
    row = OutcomeRow(offset=7, at_ms=now_ms(), req="r", deadline_ms=deadline_ms)
    await ledger.book(Book(org="acme", partition=1, rows=(row,)))

    assert set(await redis.hkeys(keys.attempt(SHARD, "acme", "r"))) == {
        b"state",
        b"fence",
        b"booked",
    }
    assert await ledger.finish(finish, b"again") == answers.Repeated(booked="1:7")
    again = await ledger.start(Start(org="acme", req="r", owner="d", lease_ms=9_000))
    assert again == answers.Finished(booked="1:7")
    stale = Finish(org="acme", req="r", fence=fence.fence - 1)
    assert await ledger.finish(stale, b"late") == answers.Stale()
    assert await ledger.admit(admit) == answers.Duplicate(state="FINISHED")
    copy = OutcomeRow(offset=8, at_ms=now_ms(), req="r", deadline_ms=deadline_ms)
    booked = await ledger.book(Book(org="acme", partition=1, rows=(row, copy)))
    assert booked.rows == ("SEEN", "DUPLICATE")


async def test_the_jobs_of_another_organization_are_unknown(ledger: LedgerClient) -> None:
    """Neither listed nor found by id."""
    await ledger.job(job("mine"))

    assert (await ledger.jobs(ListJobs(org="other", limit=10))).entries == ()
    assert (await ledger.look(Look(org="other", req="mine"))).job is None


async def test_a_look_says_that_jobs_are_not_back_yet(ledger: LedgerClient, redis: Redis) -> None:
    """Of what it does not know as one: a rebuild brings them after the shard is open."""
    wanted = Look(org="acme", req="r")
    assert not (await ledger.look(wanted)).kept_missing
    await redis.hset(keys.of_shard(SHARD, keys.META), "claims", "0")

    assert (await ledger.look(wanted)).kept_missing
    await redis.hset(keys.attempt(SHARD, "acme", "r"), "job", "facts")
    assert not (await ledger.look(wanted)).kept_missing
