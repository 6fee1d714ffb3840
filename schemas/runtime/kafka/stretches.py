"""Reads stretches of an organization's partition outside of any consumer group, a few at once.

A stretch goes from a time on to what is the end when it is asked for, and reading it has bounds. Where it is read beside
clients, a pace keeps what all readings of the process take together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from schemas.failures import Transient
from schemas.partitions import partition_of
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.free_consumer import positions_in, stop_consumer
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.runtime.process.pace import Pace

_RECORDS_MAX: Final = 200_000
_BYTES_MAX: Final = 64 * 1024 * 1024
_FETCH_BYTES: Final = 1024 * 1024
_POLL_MS: Final = 200
_RECORDS_PER_POLL: Final = 500
_RECORDS_PER_PACED_POLL: Final = 100
"""Some two milliseconds of the event loop."""


class OutOfBounds(Transient):
    """More would have to be read than one look-up may."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is read of a partition: from ``start`` to what is the end now; ``begin`` is its oldest record."""

    partition: TopicPartition
    begin: int
    start: int
    end: int


class LogReaders:
    """Consumers of no group, so many at once; each reads one partition at a time."""

    def __init__(self, brokers: str, topics: tuple[str, ...], readers: int) -> None:
        self._brokers = brokers
        self._topics = topics
        self._counts: dict[str, int] = {}
        """Partitions by topic, which are fixed for life."""
        self._idle: list[AIOKafkaConsumer] = []
        self._turns = asyncio.Semaphore(readers)

    async def partition(self, topic: str, key: str) -> TopicPartition:
        """The partition of a key, which of most topics is an organization. Raises ``KafkaError``."""
        if not self._counts.get(topic):
            found = await list_topics(self._brokers, self._topics)
            self._counts = {each.name: each.partitions for each in found}
        count = self._counts.get(topic)
        if not count:
            raise UnknownTopicOrPartitionError(topic)
        return TopicPartition(topic, partition_of(key.encode(), count))

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer, in its turn. Raises ``KafkaError`` when no broker answers."""
        async with self._turns:
            is_new = not self._idle
            consumer = self._new_reader() if is_new else self._idle.pop()
            try:
                if is_new:
                    await consumer.start()
                yield consumer
            except BaseException:
                await stop_consumer(consumer)
                raise
            consumer.unsubscribe()
            self._idle.append(consumer)

    async def stop(self) -> None:
        """Disconnect."""
        while self._idle:
            await stop_consumer(self._idle.pop())

    def _new_reader(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **client_options(self._brokers),
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
        )


async def stretch_since(
    consumer: AIOKafkaConsumer, partition: TopicPartition, since_ms: int
) -> Stretch:
    """From the last record before that time on: it is the witness that the read began early enough."""
    at = (await positions_in(consumer, [partition]))[partition]
    first = (await consumer.offsets_for_times({partition: max(0, since_ms)}))[partition]
    start = (at.end if first is None else first.offset) - 1
    return Stretch(partition, at.begin, max(at.begin, start), at.end)


async def records_in(
    consumer: AIOKafkaConsumer, stretch: Stretch, pace: Pace | None = None
) -> AsyncIterator[Any]:
    """The records of the stretch; raises ``OutOfBounds``."""
    if stretch.start >= stretch.end:
        return
    consumer.assign([stretch.partition])
    consumer.seek(stretch.partition, stretch.start)
    at_once = _RECORDS_PER_POLL if pace is None else _RECORDS_PER_PACED_POLL
    records = size = 0
    while await consumer.position(stretch.partition) < stretch.end:
        found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=at_once)
        batch = found.get(stretch.partition, ())
        read = sum(len(record.value or b"") for record in batch)
        for record in batch:
            yield record
        records, size = records + len(batch), size + read
        if records > _RECORDS_MAX or size > _BYTES_MAX:
            raise OutOfBounds(f"{records} records, {size} bytes")
        await (asyncio.sleep(0) if pace is None else pace.rest(len(batch), read))
