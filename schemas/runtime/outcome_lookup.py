"""Finds outcomes in the log: no index is kept, because a request's id carries its time.

The partition of the organization is read from that time on. Reading ends when all outcomes are
found, at the end of the partition, or at a deadline; the answer says whether it is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from schemas.codec import MalformedRecord, UnknownSchema, decode
from schemas.events import RequestFinished
from schemas.ids import uuid7_time_ms
from schemas.runtime.produce import partition_of
from schemas.topics import MAX_RECORD_BYTES, OUTCOMES

LOOKUP_WITHIN_S: Final = 5.0
_AT_ONCE: Final = 4
_CLOCK_SKEW_MS: Final = 60_000
"""Ids carry the clock of an ingress, records that of a broker."""
_POLL_MS: Final = 200
_RECORDS_PER_POLL: Final = 500


@dataclass(frozen=True, slots=True)
class Found:
    """Outcomes by request id; unless complete, what is missing may be in the log nevertheless."""

    outcomes: dict[str, RequestFinished]
    is_complete: bool


class OutcomeLookup:
    """Reads the outcomes topic outside of any consumer group, a few readers at a time."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._readers = asyncio.Semaphore(_AT_ONCE)

    async def find(
        self, org: str, request_ids: Collection[str], within_s: float = LOOKUP_WITHIN_S
    ) -> Found:
        """The effective outcomes of requests of one organization, whose ids are UUIDv7."""
        found: dict[str, RequestFinished] = {}
        try:
            async with asyncio.timeout(within_s), self._readers, self._reader() as consumer:
                async for batch in _records(consumer, org, request_ids):
                    for outcome in _outcomes(batch, request_ids):
                        found.setdefault(outcome.request_id, outcome)
                    if len(found) == len(request_ids):
                        break
        except (TimeoutError, KafkaError, UnknownSchema):
            return Found(found, is_complete=False)
        return Found(found, is_complete=True)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            OUTCOMES,
            bootstrap_servers=self._brokers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


async def _records(
    consumer: AIOKafkaConsumer, org: str, request_ids: Collection[str]
) -> AsyncIterator[list[Any]]:
    """Batches of the organization's partition, from the oldest request to what is the end now."""
    # Without a group a subscription is an assignment of all partitions; one of them is enough.
    count = len(consumer.assignment())
    if not count:
        raise UnknownTopicOrPartitionError(OUTCOMES)
    partition = TopicPartition(OUTCOMES, partition_of(org.encode(), count))
    consumer.unsubscribe()
    consumer.assign([partition])
    since_ms = min(uuid7_time_ms(request_id) for request_id in request_ids) - _CLOCK_SKEW_MS
    first = (await consumer.offsets_for_times({partition: since_ms}))[partition]
    if first is None:
        return
    end = (await consumer.end_offsets([partition]))[partition]
    consumer.seek(partition, first.offset)
    while await consumer.position(partition) < end:
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL)
        yield batches.get(partition, [])


def _outcomes(records: Iterable[Any], wanted: Collection[str]) -> Iterable[RequestFinished]:
    """Outcomes of the requests wanted; headers tell them apart without decoding."""
    for record in records:
        headers = dict(record.headers)
        if headers.get("request_id", b"").decode("ascii", "replace") not in wanted:
            continue
        try:
            event = decode(record.value)
        except MalformedRecord:
            continue  # Accounting dead-letters it; a reader has nothing to add.
        if isinstance(event, RequestFinished):
            yield event
