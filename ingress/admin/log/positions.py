"""Where partitions begin and end, and the records at chosen offsets: outside any consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from operator import itemgetter
from typing import TypeVar

from aiokafka import ConsumerRecord, TopicPartition

from schemas.runtime.kafka.free_consumer import Positions, free_consumer, positions_in
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.runtime.process.clock import Clock

_POLL_MS = 200
_RECORDS_PER_POLL = 100
_POSITIONS_DEADLINE_S = 10.0

T = TypeVar("T")


async def positions_of(brokers: str, topics: Collection[str]) -> dict[TopicPartition, Positions]:
    """The positions of every partition of the topics; a missing topic has none."""
    async with asyncio.timeout(_POSITIONS_DEADLINE_S), free_consumer(brokers) as consumer:
        partitions = [
            TopicPartition(state.name, number)
            for state in await list_topics(brokers)
            if state.name in topics
            for number in range(state.partitions)
        ]
        return await positions_in(consumer, partitions)


async def records_at(
    brokers: str, offsets: Mapping[TopicPartition, int], clock: Clock, deadline_s: float
) -> dict[TopicPartition, ConsumerRecord]:
    """The first record at or after the offset of each partition, as far as found in time."""
    wanted = dict.fromkeys(offsets, 1)
    found = await _read(brokers, offsets, wanted, clock, deadline_s, lambda record: record)
    return {partition: records[0] for partition, records in found.items()}


async def times_at(
    brokers: str, offsets: Mapping[TopicPartition, int], clock: Clock, deadline_s: float
) -> dict[TopicPartition, int]:
    """When the first record at or after the offset of each partition was appended, as far as found in time."""
    wanted = dict.fromkeys(offsets, 1)
    found = await _read(
        brokers, offsets, wanted, clock, deadline_s, lambda record: record.timestamp
    )
    return {partition: times_ms[0] for partition, times_ms in found.items()}


async def newest_of(
    brokers: str,
    positions: Mapping[TopicPartition, Positions],
    count: int,
    clock: Clock,
    deadline_s: float,
    view: Callable[[ConsumerRecord], T],
) -> list[tuple[str, T]]:
    """Topic and view of the newest ``count`` records of each partition, as far as found in time, newest first.

    Views are what is kept of them; records may be large.
    """
    filled = {p: at for p, at in positions.items() if at.records > 0}
    starts = {p: max(at.begin, at.end - count) for p, at in filled.items()}
    wanted = {p: at.end - starts[p] for p, at in filled.items()}
    found = await _read(
        brokers, starts, wanted, clock, deadline_s, lambda record: (record.timestamp, view(record))
    )
    newest = [(at_ms, p.topic, seen) for p, records in found.items() for at_ms, seen in records]
    newest.sort(key=itemgetter(0), reverse=True)
    return [(topic, seen) for _, topic, seen in newest]


async def _read(
    brokers: str,
    offsets: Mapping[TopicPartition, int],
    wanted: Mapping[TopicPartition, int],
    clock: Clock,
    deadline_s: float,
    view: Callable[[ConsumerRecord], T],
) -> dict[TopicPartition, list[T]]:
    """Views of so many records of each partition from its offset on, or of fewer at the deadline."""
    if not offsets:
        return {}
    give_up_s = clock.monotonic_s() + deadline_s
    found: dict[TopicPartition, list[T]] = {}
    missing = set(offsets)
    async with free_consumer(brokers) as consumer:
        consumer.assign(list(offsets))
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
        while missing and clock.monotonic_s() < give_up_s:
            batches = await consumer.getmany(
                *missing, timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL
            )
            for partition, records in batches.items():
                found.setdefault(partition, []).extend(map(view, records))
            done = {p for p, views in found.items() if len(views) >= wanted[p]}
            # What is left is fetched no more.
            consumer.pause(*(missing & done))
            missing -= done
    return {p: views[: wanted[p]] for p, views in found.items()}
