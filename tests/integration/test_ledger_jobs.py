"""Claims and jobs on a real Valkey: races, and what lives how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from schemas import keys
from schemas.runtime.ledger import answers
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.ledger.documents import Claim, Job, ListJobs, Look
from tests.integration.ledger_server import LedgerServer

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerServer]:
    """A server for this module."""
    running = LedgerServer(Path(tmp_path_factory.mktemp("ledger")) / "data")
    running.start()
    yield running
    running.kill()


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
    client = LedgerClient(store)
    await client.init()
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
    )


async def test_of_a_hundred_racers_one_gets_the_key(ledger: LedgerClient, redis: Redis) -> None:
    """All others learn its id, and the key is kept for 24 hours."""
    found = await asyncio.gather(*(ledger.claim(claim(f"r{n}")) for n in range(100)))

    (winner,) = [answer.req for answer in found if isinstance(answer, answers.Claimed)]
    assert {answer.req for answer in found if isinstance(answer, answers.Held)} == {winner}
    left_ms = await redis.pttl(keys.idempotency("acme", "k"))
    assert DAY_MS - 10_000 < left_ms <= DAY_MS


async def test_jobs_leave_the_list_after_a_day(ledger: LedgerClient, redis: Redis) -> None:
    """Each one's info expires by itself, the list is trimmed by the next job."""
    old, new = now_ms() - DAY_MS - 1_000, now_ms()
    await ledger.job(Job(org="acme", req="old", created_ms=old, info="{}"))
    await ledger.job(Job(org="acme", req="new", created_ms=new, info="{}"))

    listed = await ledger.jobs(ListJobs(org="acme", limit=10))

    assert [entry.req for entry in listed.entries] == ["new"]
    assert 0 < await redis.pttl(keys.job("acme", "new")) <= DAY_MS


async def test_the_list_of_jobs_is_bounded(ledger: LedgerClient, redis: Redis) -> None:
    """The oldest leave it; they can still be asked for by id."""
    now = now_ms()
    await redis.zadd(keys.jobs("acme"), {f"j{n:05}": now + n for n in range(10_000)})
    await ledger.job(Job(org="acme", req="newest", created_ms=now + 10_000, info="{}"))

    assert await redis.zcard(keys.jobs("acme")) == 10_000
    assert await redis.zscore(keys.jobs("acme"), "j00000") is None
    assert (await ledger.look(Look(org="acme", req="newest"))).job == "{}"


async def test_the_jobs_of_another_organization_are_unknown(ledger: LedgerClient) -> None:
    """Neither listed nor found by id."""
    await ledger.job(Job(org="acme", req="mine", created_ms=now_ms(), info="{}"))

    assert (await ledger.jobs(ListJobs(org="other", limit=10))).entries == ()
    assert (await ledger.look(Look(org="other", req="mine"))).job is None
