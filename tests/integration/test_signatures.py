"""Signatures of requests in a real store: each is used once, by whichever process comes first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.ledger.signatures import SignatureUse
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.valkey.store import Store
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD

KEPT_MS = 60_000
FIRST, AGAIN, EARLIER = SignatureUse.FIRST, SignatureUse.AGAIN, SignatureUse.EARLIER


@pytest_asyncio.fixture
async def stores(server: LedgerServer) -> AsyncIterator[list[Store]]:
    """Two processes' connections to an empty ledger."""
    made = [ledger_store(server.url) for _ in range(2)]
    for store in made:
        await store.start()
    await made[0].call("FLUSHALL")
    await LedgerClient(made[0], ONE_SHARD).init(SHARD)
    yield made
    for store in made:
        await store.stop()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _use(
    store: Store,
    signature: str = "a" * 32,
    org: str = "acme",
    *,
    at_ms: int | None = None,
    kept_ms: int = KEPT_MS,
    epoch: int = 0,
) -> SignatureUse:
    client = LedgerClient(store, ONE_SHARD, epochs=lambda: {SHARD: epoch})
    signed_at_ms = _now_ms() if at_ms is None else at_ms
    return await client.use_signature(org, signature, signed_at_ms, kept_ms)


async def test_each_signature_is_used_once_across_processes(stores: list[Store]) -> None:
    """Of a hundred at once on two connections, one is the first; organizations do not meet."""
    uses = await asyncio.gather(*(_use(stores[n % 2]) for n in range(100)))

    assert sorted(uses) == sorted([FIRST] + [AGAIN] * 99)
    assert await _use(stores[1], "b" * 32) == FIRST
    assert await _use(stores[1], org="other") == FIRST


async def test_a_signature_is_forgotten_once_its_time_is_over(stores: list[Store]) -> None:
    """The store does not fill with what is refused for its age anyway."""
    assert await _use(stores[0], kept_ms=200) == FIRST
    await asyncio.sleep(0.3)

    assert await stores[0].call("KEYS", "*|s:*") == []


async def test_a_shard_that_was_made_again_takes_nothing_older_than_itself(
    stores: list[Store],
) -> None:
    """It has forgotten what was used before it opened."""
    ready_ms = _now_ms()
    await stores[0].call("HSET", META_KEY, "ready_ms", ready_ms)

    assert await _use(stores[0], at_ms=ready_ms - 1) == EARLIER
    assert await _use(stores[0], at_ms=ready_ms) == FIRST


async def test_a_closed_shard_decides_nothing(stores: list[Store]) -> None:
    """Nor one behind the announced epoch, nor one that is empty."""
    with pytest.raises(LedgerNotReady):
        await _use(stores[0], epoch=2)
    await stores[0].call("HSET", META_KEY, "ready", 0)
    with pytest.raises(LedgerNotReady):
        await _use(stores[0])
    await stores[0].call("FLUSHALL")
    with pytest.raises(LedgerNotReady):
        await _use(stores[0])

    assert await stores[0].call("KEYS", "*|s:*") == []


async def test_a_store_that_is_away_is_told_as_such(server: LedgerServer) -> None:
    """It never looks like a first use."""
    with pytest.raises(LedgerUnavailable):
        await _use(ledger_store(server.url))
