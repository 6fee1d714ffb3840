"""The suite of the ledger on a real store: what the model does, the functions do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from schemas.runtime.ledger.client import LedgerClient, ledger_store
from tests.support.harness.ledger_server import LedgerServer
from tests.support.ledger_suite import LedgerSuite
from tests.support.one_shard import META_KEY, ONE_SHARD


class TestOnValkey(LedgerSuite):
    """On one server, emptied for each test."""

    @pytest_asyncio.fixture
    async def ledger(self, server: LedgerServer) -> AsyncIterator[LedgerClient]:
        """A ledger that nothing was told yet, and that takes its time from the calls."""
        store = ledger_store(server.url)
        await store.start()
        await store.call("FLUSHALL")
        await store.call("HSET", META_KEY, "epoch", "1", "ready", "1", "test_clock", "1")
        yield LedgerClient(store, ONE_SHARD)
        await store.stop()
