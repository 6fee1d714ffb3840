"""Usage read in a real store: every cell once, in pieces, and nothing is changed by it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas.ledger.errors import LedgerNotReady
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.valkey.store import Store
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD

HOUR = "2026-11-27T09"


@pytest_asyncio.fixture
async def store(server: LedgerServer) -> AsyncIterator[Store]:
    """A connection to a ledger with one hour of one organization, of more cells than one piece has."""
    store = ledger_store(server.url)
    await store.start()
    await store.call("FLUSHALL")
    await LedgerClient(store, ONE_SHARD).init(SHARD)
    for first in range(0, 3_000, 500):
        cells = [
            part for n in range(first, first + 500) for part in (f"k\tu{n}\tm\tb\trequests", n)
        ]
        await store.call("HSET", f"{{0}}|acme|u:{HOUR}", *cells)
    yield store
    await store.stop()


async def test_every_cell_is_told_in_pieces(store: Store) -> None:
    """None of them large; an hour without use is empty, and so is a neighbour's."""
    client = LedgerClient(store, ONE_SHARD)
    read = await client.usage("acme", HOUR, 0, 100)
    told, largest = dict(read.cells), len(read.cells)
    while read.cursor:
        read = await client.usage("acme", HOUR, read.cursor, 100)
        told, largest = {**told, **read.cells}, max(largest, len(read.cells))

    assert told == {f"k\tu{n}\tm\tb\trequests": n for n in range(3_000)}
    assert largest < 500
    assert await client.usage("other", HOUR, 0, 100) == (0, {})
    assert await client.usage("acme", "2026-11-27T10", 0, 100) == (0, {})


@pytest.mark.parametrize("field", ["ready", "complete"])
async def test_a_shard_that_is_closed_or_not_whole_tells_nothing(store: Store, field: str) -> None:
    """Nor one that is behind an epoch that was announced."""
    behind = LedgerClient(store, ONE_SHARD, epochs=lambda: {SHARD: 99})
    with pytest.raises(LedgerNotReady):
        await behind.usage("acme", HOUR, 0, 100)

    await store.call("HSET", META_KEY, field, "0")
    with pytest.raises(LedgerNotReady):
        await LedgerClient(store, ONE_SHARD).usage("acme", HOUR, 0, 100)
