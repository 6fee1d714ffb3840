"""Reads topics from their beginning, outside any consumer group: for administration only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import MAX_RECORD_BYTES

_POLL_MS = 200
_RECORDS_PER_POLL = 200


@dataclass(slots=True)
class LogReader:
    """One topic, all partitions; ``next_records`` moves on from where the last call ended."""

    consumer: AIOKafkaConsumer

    async def ends(self) -> dict[TopicPartition, int]:
        """The offset after the newest record of each partition."""
        partitions = list(self.consumer.assignment())
        ends: dict[TopicPartition, int] = await self.consumer.end_offsets(partitions)
        return ends

    async def values_to_end(self) -> AsyncIterator[list[bytes]]:
        """Batches of values up to what is the end now.

        The loop turns after each batch, since requests are served beside it. It goes on for as long
        as the broker is away; callers set the deadline.
        """
        ends = await self.ends()
        while not await self._is_at(ends):
            batches = await self.consumer.getmany(
                timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL
            )
            yield [r.value for records in batches.values() for r in records if r.value is not None]
            await asyncio.sleep(0)

    async def _is_at(self, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            if await self.consumer.position(partition) < end:
                return False
        return True


@asynccontextmanager
async def read_topic(brokers: str, topic: str) -> AsyncIterator[LogReader]:
    """A reader at the beginning of the topic. Raises ``KafkaError`` when no broker answers."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=brokers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    try:
        await consumer.start()
        yield LogReader(consumer)
    finally:
        await consumer.stop()
