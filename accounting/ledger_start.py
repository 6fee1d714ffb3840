"""Makes a new ledger usable, where the log says that there never was one.

An empty shard beside a log with records has lost what it had: admitting against zero would overspend. Such a
shard stays closed until its owner has rebuilt it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import TopicPartition

from schemas.ledger.keys import META, of_shard
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.free_consumer import free_consumer, positions_in
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.valkey.store import Store
from schemas.topics import BACKGROUND, DISPATCH, OUTCOMES, REQUESTS, USAGE_TABLES

_TELLS: Final = (REQUESTS, BACKGROUND, DISPATCH, OUTCOMES, USAGE_TABLES)
"""Whoever used the ledger left a record in one of these."""


async def open_ledger(ledger: LedgerClient, store: Store, config: ConfigFeed, brokers: str) -> None:
    """Begin the life of shards that never had one."""
    shards = list(ledger.shards)
    exist = await asyncio.gather(*(store.call("EXISTS", of_shard(n, META)) for n in shards))
    absent = [number for number, is_there in zip(shards, exist, strict=True) if not is_there]
    known = config.snapshot.ledger_epochs
    if not absent or known or await store.call("EXISTS", META) or await _was_used(brokers, shards):
        return
    await asyncio.gather(*map(ledger.init, absent))


async def _was_used(brokers: str, shards: Sequence[int]) -> bool:
    async with free_consumer(brokers) as consumer:
        partitions = [TopicPartition(topic, number) for topic in _TELLS for number in shards]
        ends = await positions_in(consumer, partitions)
    return any(at.end > 0 for at in ends.values())
