"""Makes a new ledger usable, and refuses to do so where the log says that there was one before.

An empty ledger beside a log with outcomes has lost its balances: admitting against zero would overspend.
It stays closed (NOT_READY) until it is rebuilt.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

from schemas.ledger import answers
from schemas.ledger.keys import META
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import Store
from schemas.topics import OUTCOMES

_LOG = EventLog(__name__)


async def open_ledger(ledger: LedgerClient, store: Store, brokers: str) -> answers.Meta | None:
    """The ledger's life, begun now if it is the first; ``None`` when it lost its data."""
    if await store.call("EXISTS", META):
        return await ledger.init()
    if await _outcomes_exist(brokers):
        _LOG.event(LogEvent.LEDGER_LOST, topic=OUTCOMES)
        return None
    return await ledger.init()


async def _outcomes_exist(brokers: str) -> bool:
    consumer = AIOKafkaConsumer(OUTCOMES, bootstrap_servers=brokers, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
    finally:
        await consumer.stop()
    return any(end > 0 for end in ends.values())
