"""Reads stretches of the log for a rebuild: outside of any group, in pages, and never for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from accounting.earlier import LogUnreadable
from accounting.rebuild.batches import BatchReader, batch_reader
from accounting.rebuild.records import LogRecord
from schemas.runtime.kafka.free_consumer import Positions, free_consumer, positions_in

__all__ = ["Log", "LogStretches", "open_log"]


class Log(Protocol):
    """What a rebuild reads."""

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Positions]:
        """Where each partition begins and ends now."""

    async def first_since(self, partition: TopicPartition, at_ms: int, end: int) -> int:
        """The first offset that was appended at that time or later; ``end`` when there is none."""

    def pages(
        self, partition: TopicPartition, begin: int, end: int
    ) -> AsyncIterator[list[LogRecord]]:
        """The records of [begin, end), in pages."""


@dataclass(frozen=True, slots=True)
class LogStretches:
    """The log at some brokers: a consumer knows where its partitions begin and end, and a reader has what stands there."""

    consumer: AIOKafkaConsumer
    reader: BatchReader

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Positions]:
        """Where each partition begins and ends now. Raises ``KafkaError``."""
        return await positions_in(self.consumer, partitions)

    async def first_since(self, partition: TopicPartition, at_ms: int, end: int) -> int:
        """The first offset that was appended at that time or later; ``end`` when there is none."""
        found = await self.consumer.offsets_for_times({partition: max(0, at_ms)})
        first = found[partition]
        return end if first is None else min(end, int(first.offset))

    def pages(
        self, partition: TopicPartition, begin: int, end: int
    ) -> AsyncIterator[list[LogRecord]]:
        """The records of [begin, end), in pages. Raises ``KafkaError`` and ``LogUnreadable``."""
        return self.reader.pages(partition, begin, end)


@asynccontextmanager
async def open_log(brokers: str) -> AsyncIterator[LogStretches]:
    """The log at these brokers. Raises ``LogUnreadable`` when none answers, or stops to."""
    try:
        async with free_consumer(brokers) as consumer:

            async def begin_of(partition: TopicPartition) -> int:
                begins = await consumer.beginning_offsets([partition])
                return int(begins[partition])

            async with batch_reader(brokers, begin_of) as reader:
                yield LogStretches(consumer, reader)
    except KafkaError as error:
        raise LogUnreadable(repr(error)) from error
