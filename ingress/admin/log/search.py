"""Searches partitions of the log from a time on, outside any consumer group.

A search ends at what was the end when it began, after ``until_ms``, or at its bounds; whoever reads its
findings can tell which of them it was. It holds no more than one answer of the broker at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.runtime.kafka.free_consumer import free_consumer
from schemas.runtime.process.clock import Clock

_POLL_MS = 200
_RECORDS_PER_POLL = 500
_OPEN_DEADLINE_S = 10.0
TO_THE_END_MS: Final = 2**53
"""An end of a span that leaves out nothing."""

GaveUp: TypeAlias = Literal["time", "records", "bytes"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a search may take, and how much it may look at: records, and bytes of their values."""

    deadline_s: float = 10.0
    records_max: int = 500_000
    bytes_max: int = 512 * 1024 * 1024


@dataclass(slots=True)
class LogSearch:
    """One search under way; ``batches`` moves it on."""

    consumer: AIOKafkaConsumer
    clock: Clock
    bounds: Bounds
    give_up_s: float
    from_ms: int
    until_ms: int
    """Records appended later, by the broker's clock, are left out."""
    ends: dict[TopicPartition, int]
    """Partitions still to be read, and the offset after the last record wanted."""
    records: int = 0
    """How many have been looked at."""
    bytes: int = 0
    """How long their values were."""
    gave_up: GaveUp | None = None

    async def batches(self) -> AsyncIterator[list[ConsumerRecord]]:
        """Records in batches; the loop turns between them, since requests are served beside it."""
        while self.ends and not self._must_give_up():
            found = await self.consumer.getmany(
                *self.ends, timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL
            )
            wanted = [r for rs in found.values() for r in rs if r.timestamp <= self.until_ms]
            self.records += len(wanted)
            self.bytes += sum(len(record.value or b"") for record in wanted)
            yield wanted
            for partition, records in found.items():
                if records and records[-1].timestamp > self.until_ms:
                    self.leave(partition)
            for partition, end in list(self.ends.items()):
                if await self.consumer.position(partition) >= end:
                    self.leave(partition)
            await asyncio.sleep(0)

    @property
    def bounds_left(self) -> Bounds:
        """What a search that goes on with this one's findings may still take."""
        return replace(
            self.bounds,
            deadline_s=max(0.0, self.give_up_s - self.clock.monotonic_s()),
            records_max=self.bounds.records_max - self.records,
            bytes_max=self.bounds.bytes_max - self.bytes,
        )

    def end_at(self, until_ms: int) -> None:
        """Nothing is wanted any more that happened later."""
        self.until_ms = min(self.until_ms, self.clock.appended_span_ms(until_ms, until_ms)[1])

    def leave(self, partition: TopicPartition) -> None:
        """Nothing more of the partition is wanted."""
        if self.ends.pop(partition, None) is not None:
            self.consumer.pause(partition)

    def _must_give_up(self) -> bool:
        if self.clock.monotonic_s() >= self.give_up_s:
            self.gave_up = "time"
        elif self.records >= self.bounds.records_max:
            self.gave_up = "records"
        elif self.bytes >= self.bounds.bytes_max:
            self.gave_up = "bytes"
        return self.gave_up is not None


@asynccontextmanager
async def search_log(
    brokers: str,
    partitions: Collection[TopicPartition],
    appended_ms: tuple[int, int],
    clock: Clock,
    bounds: Bounds,
) -> AsyncIterator[LogSearch]:
    """A search of what was appended from the one time until the other, Unix milliseconds of the broker's clock.

    ``Clock.appended_span_ms`` says where a span of the ledger's time may have been appended. Raises ``KafkaError`` when no broker answers and ``TimeoutError`` when one does not answer in time.
    """
    async with free_consumer(brokers) as consumer:
        yield await begin_search(consumer, partitions, appended_ms, clock, bounds)


async def begin_search(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    appended_ms: tuple[int, int],
    clock: Clock,
    bounds: Bounds,
) -> LogSearch:
    """A search with a consumer that has ended its last one."""
    give_up_s = clock.monotonic_s() + bounds.deadline_s
    async with asyncio.timeout(_OPEN_DEADLINE_S):
        ends = await _seek(consumer, partitions, appended_ms[0])
    return LogSearch(consumer, clock, bounds, give_up_s, *appended_ms, ends)


async def _seek(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], from_ms: int
) -> dict[TopicPartition, int]:
    """Go to the first record from that time on; the ends of partitions that have one."""
    starts = await consumer.offsets_for_times(dict.fromkeys(partitions, max(0, from_ms)))
    ends: dict[TopicPartition, int] = await consumer.end_offsets(list(partitions))
    wanted = {p: end for p, end in ends.items() if starts[p] and starts[p].offset < end}
    consumer.unsubscribe()
    consumer.assign(list(wanted))
    for partition in wanted:
        consumer.seek(partition, starts[partition].offset)
    return wanted
