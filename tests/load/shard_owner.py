"""The owner of all shards alone, without the books: ``python -m tests.load.shard_owner BROKERS LEDGER``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from accounting.earlier import EarlierRecords
from accounting.rebuild.build import Parts
from accounting.rebuild.folders import Folders
from accounting.rebuild.old_layout import OldLayout
from accounting.rebuild.owner import ShardOwner
from schemas import topics
from schemas.ledger.shards import Shards
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL


async def run(brokers: str, ledger_url: str) -> None:
    """Own every shard, for ever; the first line of output says when that began (monotonic seconds)."""
    clock, store = Clock(), ledger_store(ledger_url)
    producer = Producer(brokers, "shard-owner")
    with tempfile.TemporaryDirectory() as folder:
        config = ConfigFeed(brokers, Path(folder))
        await asyncio.gather(store.start(), config.start())
        await producer.start((topics.OUTCOMES, topics.CONFIG))
        shards = Shards(producer.partitions(topics.OUTCOMES))
        ledger = LedgerClient(store, shards)
        old = OldLayout(store, ledger)
        parts = Parts(ledger, producer, Folders(EarlierRecords(brokers)), FULL, old)
        owned = frozenset(shards)

        async def compare(_: object) -> None:
            """The log is the one that the shards are of."""

        owner = ShardOwner(
            parts, brokers, store, config, lambda: owned, clock, Metrics(), {}, compare
        )
        print(time.monotonic(), flush=True)
        await owner.run()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
