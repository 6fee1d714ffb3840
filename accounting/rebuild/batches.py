"""Reads a partition in batches, outside of any group: an answer of the broker is fetched while the one before it is
taken apart.

A consumer makes a second object of each record, which costs more than the first; a rebuild reads hundreds of
thousands of them. So aiokafka's own client and parser are used here, without its consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, TypeAlias

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from accounting.earlier import LogUnreadable
from accounting.rebuild.records import LogRecord
from schemas.runtime.kafka.access import client_options

__all__ = ["BatchReader", "batch_reader", "batches_in", "pages_of"]

Batch: TypeAlias = Any
"""Records that were produced together, as aiokafka takes them apart."""

_FETCH_BYTES: Final = 2 * 1024 * 1024
"""Of an answer; a batch that is larger comes alone. Two of them are in memory."""
_WAIT_MS: Final = 500
_PAGE_RECORDS: Final = 2_000
_SILENT_MAX_S: Final = 20.0
"""A broker that says nothing for this long while there is more to read is away."""
_ANSWERS_WITHIN_MS: Final = 10_000
_AGAIN_S: Final = 0.1
_CLOSES_WITHIN_S: Final = 1.0
_READ_UNCOMMITTED: Final = 0


@dataclass(frozen=True, slots=True)
class BatchReader:
    """Reads stretches of partitions, any number at a time."""

    client: AIOKafkaClient
    begin_of: Callable[[TopicPartition], Awaitable[int]]
    """Where a partition begins by now."""

    async def pages(
        self, partition: TopicPartition, begin: int, end: int
    ) -> AsyncIterator[list[LogRecord]]:
        """The records of [begin, end), in pages. Raises ``KafkaError`` and ``LogUnreadable``.

        Where retention passed its position it goes on at the oldest record.
        """
        if begin >= end:
            return
        at, following = begin, asyncio.create_task(self._heard(partition, begin))
        try:
            while at < end:
                batches = await following
                reached = batches[-1].next_offset
                if reached < end:
                    following = asyncio.create_task(self._heard(partition, reached))
                for page in pages_of(batches, at, end):
                    # What follows is asked for, and the loop lives, however long a page is worked at.
                    await asyncio.sleep(0)
                    yield page
                at = reached
        finally:
            following.cancel()

    async def _heard(self, partition: TopicPartition, offset: int) -> Sequence[Batch]:
        """What stands there, once there is something."""
        try:
            async with asyncio.timeout(_SILENT_MAX_S):
                await self.client.add_topic(partition.topic)
                while True:
                    try:
                        batches = await self._fetched(partition, offset)
                        if batches and batches[-1].next_offset > offset:
                            return batches
                    except OffsetOutOfRangeError:
                        offset = await self._next_kept(partition, offset)
                    except KafkaError as error:
                        if not error.retriable:
                            raise
                        await self.client.force_metadata_update()
                    await asyncio.sleep(_AGAIN_S)
        except TimeoutError as error:
            raise LogUnreadable(f"{_named(partition)} is silent at {offset}") from error

    async def _fetched(self, partition: TopicPartition, offset: int) -> Sequence[Batch]:
        leader = self.client.cluster.leader_for_partition(partition)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError
        wanted = (partition.partition, offset, _FETCH_BYTES)
        topics = [(partition.topic, [wanted])]
        request = FetchRequest(_WAIT_MS, 1, _FETCH_BYTES, _READ_UNCOMMITTED, topics)
        answer = await self.client.send(leader, request)
        for _, partitions in answer.topics:
            for _, error_code, *_, records in partitions:
                if error_code:
                    raise for_code(error_code)
                return list(batches_in(records or b""))
        return ()

    async def _next_kept(self, partition: TopicPartition, offset: int) -> int:
        begin = await self.begin_of(partition)
        if begin <= offset:
            raise LogUnreadable(f"{_named(partition)} ends before {offset} by now")
        return begin


def batches_in(answer: bytes) -> Iterator[Batch]:
    """The whole batches of an answer; of the last one only a part may have come."""
    records = MemoryRecords(answer)
    while records.has_next():
        yield records.next_batch()


def pages_of(batches: Iterable[Batch], begin: int, end: int) -> Iterator[list[LogRecord]]:
    """The records of [begin, end) among them, a few at a time. Raises ``CorruptRecordException``."""
    records = chain.from_iterable(_records_of(batch, begin, end) for batch in batches)
    while page := list(islice(records, _PAGE_RECORDS)):
        yield page


def _records_of(batch: Batch, begin: int, end: int) -> Iterable[LogRecord]:
    if not batch.validate_crc():
        raise CorruptRecordException(f"the checksum at {batch.next_offset} is wrong")
    if batch.is_control_batch:
        return ()
    if begin <= batch.base_offset and batch.next_offset <= end:
        records: Iterable[LogRecord] = batch
        return records
    return [record for record in batch if begin <= record.offset < end]


def _named(partition: TopicPartition) -> str:
    return f"{partition.topic}-{partition.partition}"


@asynccontextmanager
async def batch_reader(
    brokers: str, begin_of: Callable[[TopicPartition], Awaitable[int]]
) -> AsyncIterator[BatchReader]:
    """A reader at these brokers. Raises ``KafkaError`` when none answers."""
    client = AIOKafkaClient(**client_options(brokers), request_timeout_ms=_ANSWERS_WITHIN_MS)
    try:
        await client.bootstrap()
        yield BatchReader(client, begin_of)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSES_WITHIN_S):
                await client.close()
