"""Reads stretches of the log for a rebuild: outside of any group, in pages, and never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from accounting.earlier import LogUnreadable
from schemas.runtime.kafka.free_consumer import Positions, free_consumer, positions_in
from schemas.topics import MAX_RECORD_BYTES

__all__ = ["Log", "LogStretches", "open_log"]

_FETCH_BYTES: Final = 4 * 1024 * 1024
_POLL_MS: Final = 500
_RECORDS_PER_POLL: Final = 2_000
_SILENT_MAX_S: Final = 20.0
"""A broker that says nothing for this long while there is more to read is away."""


class Log(Protocol):
    """What a rebuild reads."""

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Positions]:
        """Where each partition begins and ends now."""

    async def first_since(self, partition: TopicPartition, at_ms: int, end: int) -> int:
        """The first offset that was appended at that time or later; ``end`` when there is none."""

    def pages(
        self, partition: TopicPartition, begin: int, end: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        """The records of [begin, end), in pages."""


@dataclass(frozen=True, slots=True)
class LogStretches:
    """The log, as one consumer reads it, one stretch after another."""

    consumer: AIOKafkaConsumer

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Positions]:
        """Where each partition begins and ends now. Raises ``KafkaError``."""
        return await positions_in(self.consumer, partitions)

    async def first_since(self, partition: TopicPartition, at_ms: int, end: int) -> int:
        """The first offset that was appended at that time or later; ``end`` when there is none."""
        found = await self.consumer.offsets_for_times({partition: max(0, at_ms)})
        first = found[partition]
        return end if first is None else min(end, int(first.offset))

    async def pages(
        self, partition: TopicPartition, begin: int, end: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        """The records of [begin, end), in pages. Raises ``KafkaError`` and ``LogUnreadable``."""
        if begin >= end:
            return
        self.consumer.assign([partition])
        self.consumer.seek(partition, begin)
        loop = asyncio.get_running_loop()
        heard_s, at = loop.time(), begin
        try:
            while at < end:
                found = await self.consumer.getmany(
                    partition, timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL
                )
                page = [each for each in found.get(partition, ()) if each.offset < end]
                reached = await self.consumer.position(partition)
                if reached > at:
                    heard_s, at = loop.time(), reached
                elif loop.time() - heard_s > _SILENT_MAX_S:
                    raise LogUnreadable(
                        f"{partition.topic}-{partition.partition} is silent at {at}"
                    )
                if page:
                    yield page
                await asyncio.sleep(0)
        finally:
            self.consumer.unsubscribe()


@asynccontextmanager
async def open_log(brokers: str) -> AsyncIterator[LogStretches]:
    """The log at these brokers. Raises ``LogUnreadable`` when none answers, or stops to."""
    try:
        async with free_consumer(brokers, MAX_RECORD_BYTES, _FETCH_BYTES) as consumer:
            yield LogStretches(consumer)
    except KafkaError as error:
        raise LogUnreadable(repr(error)) from error
