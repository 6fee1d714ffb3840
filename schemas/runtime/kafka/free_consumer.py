"""Readers of the log outside of any consumer group: they commit nothing, and nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from schemas.runtime.kafka.access import client_options

__all__ = ["Positions", "committed_offsets", "free_consumer", "positions_in", "stop_consumer"]

_COMMITTED_DEADLINE_S = 10.0
_STOPS_WITHIN_S = 1.0
_CANCELLED_MAX = 3

_FETCH_BYTES = 2 * 1024 * 1024
"""Of all partitions in one answer of a broker; a batch that is larger comes alone."""
_PARTITION_FETCH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Positions:
    """The offsets of a partition's oldest record and after its newest one."""

    begin: int
    end: int

    @property
    def records(self) -> int:
        """How many records there are, or were before compaction."""
        return self.end - self.begin


@asynccontextmanager
async def free_consumer(
    brokers: str,
    partition_fetch_bytes: int = _PARTITION_FETCH_BYTES,
    fetch_bytes: int = _FETCH_BYTES,
    *,
    resets: bool = True,
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group and no partition. Raises ``KafkaError`` when no broker answers.

    Where retention passed its position it goes on at the oldest record, unless it ``resets`` nothing: then
    reading raises ``OffsetOutOfRangeError``.
    """
    consumer = AIOKafkaConsumer(
        **client_options(brokers),
        enable_auto_commit=False,
        auto_offset_reset="earliest" if resets else "none",
        fetch_max_bytes=max(fetch_bytes, partition_fetch_bytes),
        max_partition_fetch_bytes=partition_fetch_bytes,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await stop_consumer(consumer)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Disconnect a consumer, within seconds.

    The fetcher of aiokafka (0.14, since its pull request 1007) suppresses a cancellation that reaches it while it ends
    the fetches of partitions that were just given up, and ``stop`` then waits for it for ever. Another one ends it.
    """
    stopping = asyncio.create_task(consumer.stop())
    try:
        for _ in range(_CANCELLED_MAX):
            await asyncio.wait({stopping}, timeout=_STOPS_WITHIN_S)
            if stopping.done():
                break
            stopping.cancel()
    finally:
        stopping.cancel()
    if stopping.done() and not stopping.cancelled():
        stopping.result()


async def positions_in(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, Positions]:
    """Where each partition begins and ends now. Raises ``KafkaError``."""
    begins = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    return {partition: Positions(begins[partition], ends[partition]) for partition in partitions}


async def committed_offsets(
    brokers: str, groups: Collection[str]
) -> dict[str, dict[TopicPartition, int]]:
    """What each group committed; a partition it never committed is absent. Raises ``KafkaError``, ``TimeoutError``."""
    admin = AIOKafkaAdminClient(**client_options(brokers))
    async with asyncio.timeout(_COMMITTED_DEADLINE_S):
        await admin.start()
        try:
            return {
                group: {
                    partition: committed.offset
                    for partition, committed in (
                        await admin.list_consumer_group_offsets(group)
                    ).items()
                    if committed.offset >= 0
                }
                for group in groups
            }
        finally:
            await admin.close()
