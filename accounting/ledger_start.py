"""Makes a new ledger usable, and refuses to do so where the log says that there was one before.

An empty shard beside a log with outcomes has lost its balances: admitting against zero would overspend.
It stays closed (NOT_READY) until it is rebuilt.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer

from schemas.ledger.keys import META, of_shard
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import Store
from schemas.topics import OUTCOMES

_LOG = EventLog(__name__)


async def open_ledger(ledger: LedgerClient, store: Store, brokers: str) -> list[int]:
    """Begin the life of shards that are new; returns those that lost their data."""
    shards = list(ledger.shards)
    exist = await asyncio.gather(*(store.call("EXISTS", of_shard(n, META)) for n in shards))
    absent = [number for number, is_there in zip(shards, exist, strict=True) if not is_there]
    if not absent:
        return []
    if await _outcomes_exist(brokers):
        _LOG.event(LogEvent.LEDGER_LOST, topic=OUTCOMES, count=len(absent))
        return absent
    await asyncio.gather(*map(ledger.init, absent))
    return []


async def _outcomes_exist(brokers: str) -> bool:
    consumer = AIOKafkaConsumer(OUTCOMES, bootstrap_servers=brokers, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
    finally:
        await consumer.stop()
    return any(end > 0 for end in ends.values())
