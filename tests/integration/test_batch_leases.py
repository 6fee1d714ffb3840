"""Leases of batches in a real store: one holder at a time, who keeps it for as long as it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ingress.batches import lease
from ingress.batches.lease import BatchLeases
from schemas.ledger.keys import batch_lease
from schemas.runtime.ledger.client import ledger_store
from schemas.runtime.valkey.store import Store
from tests.support.harness.ledger_server import LedgerServer


@pytest_asyncio.fixture
async def store(server: LedgerServer) -> AsyncIterator[Store]:
    """A connection to an empty store."""
    made = ledger_store(server.url)
    await made.start()
    await made.call("FLUSHALL")
    yield made
    await made.stop()


async def test_a_batch_has_one_holder(store: Store) -> None:
    """Of many at once; another batch has its own, and a holder may take it again."""
    leases = [BatchLeases(store, f"process-{number}") for number in range(20)]

    taken = await asyncio.gather(*(each.take("batch_a") for each in leases))

    holder = leases[taken.index(True)]
    assert sum(taken) == 1
    assert await holder.take("batch_a")
    assert await leases[-1].take("batch_b")


async def test_only_its_holder_gives_a_lease_back(store: Store) -> None:
    """Then another may have it at once."""
    first, second = BatchLeases(store, "first"), BatchLeases(store, "second")
    await first.take("batch_a")

    await second.give_back("batch_a")
    kept = await second.take("batch_a")
    await first.give_back("batch_a")

    assert not kept
    assert await second.take("batch_a")


async def test_a_lease_lapses_unless_it_is_renewed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, so that who was killed keeps nobody waiting for long."""
    monkeypatch.setattr(lease, "LEASE_MS", 400)
    first, second = BatchLeases(store, "first"), BatchLeases(store, "second")
    await first.take("batch_a")
    await asyncio.sleep(0.25)
    await first.take("batch_a")
    await asyncio.sleep(0.25)

    assert not await second.take("batch_a")
    assert 0 < int(str(await store.call("PTTL", batch_lease("batch_a")))) <= 400
    await asyncio.sleep(0.3)
    assert await second.take("batch_a")
