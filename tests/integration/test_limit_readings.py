"""Limits read in a real store: what was taken is told, and nothing is changed by it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas.ledger.documents import Admit, Balance, Lease, Rate
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.limit_readings import read_rate
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.valkey.store import Store
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD

RATES = [
    Rate(key="r:org/requests", id="org:requests_per_s", cost=1, burst=10, rate_milli_per_s=1),
    Rate(key="r:key/k/requests", id="key:requests_per_s", cost=1, burst=10, rate_milli_per_s=1),
]
LEASES = [Lease(key="c:org", id="org:concurrency", limit=5)]
BALANCES = [Balance(key="b:org/tokens:total", unit="tokens", amount=30, id="q", limit=100, start_ms=0)]  # fmt: skip


@pytest_asyncio.fixture
async def store(server: LedgerServer) -> AsyncIterator[Store]:
    """A connection to an empty ledger."""
    store = ledger_store(server.url)
    await store.start()
    await store.call("FLUSHALL")
    await LedgerClient(store, ONE_SHARD).init(SHARD)
    yield store
    await store.stop()


async def _admitted(client: LedgerClient, request: str, lease_ms: int) -> None:
    now_ms = time.time_ns() // 1_000_000
    await client.admit(
        Admit(
            org="acme",
            req=request,
            deadline_ms=now_ms + lease_ms,
            accepted_ms=now_ms,
            incarnation_ms=now_ms + lease_ms,
            rates=tuple(RATES[:1]),
            leases=tuple(LEASES),
            balances=tuple(BALANCES),
        )
    )


async def test_what_was_taken_is_told_of_each_and_of_no_neighbour(store: Store) -> None:
    """Buckets, places and balances, those that nobody touched too; all keys are as they were."""
    client = LedgerClient(store, ONE_SHARD)
    for number in range(3):
        await _admitted(client, f"r{number}", 60_000)
    await store.call("ZADD", "{0}|acme|c:org", 1, "one that ended long ago")
    kept = sorted(await store.call("KEYS", "*"))

    read = await client.limits("acme", RATES, LEASES, BALANCES)
    neighbour = await client.limits("other", RATES, LEASES, BALANCES)

    used = [
        read_rate(rate, bucket, read.now_us).used
        for rate, bucket in zip(RATES, read.buckets, strict=True)
    ]
    assert (used, list(read.leases), list(read.balances)) == ([3, 0], [3], [(0, 90)])
    assert abs(read.now_us / 1e6 - time.time()) < 5
    assert (neighbour.buckets, list(neighbour.leases)) == ([(0, 0), (0, 0)], [0])
    assert list(neighbour.balances) == [(0, 0)]
    assert sorted(await store.call("KEYS", "*")) == kept
    assert await store.call("ZCARD", "{0}|acme|c:org") == 4


async def test_a_shard_that_decides_nothing_tells_nothing(store: Store) -> None:
    """Closed, or behind an epoch that was announced."""
    behind = LedgerClient(store, ONE_SHARD, epochs=lambda: {SHARD: 99})
    with pytest.raises(LedgerNotReady):
        await behind.limits("acme", RATES, LEASES, BALANCES)

    await store.call("HSET", META_KEY, "ready", "0")
    with pytest.raises(LedgerNotReady):
        await LedgerClient(store, ONE_SHARD).limits("acme", RATES, LEASES, BALANCES)
