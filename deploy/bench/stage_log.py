"""Reads when requests took their steps from the topics: the records that were appended since it was opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.bench.report import Sample
from deploy.bench.stages import Times
from schemas.codec import UNDECODABLE, decode
from schemas.events import RequestAccepted, RequestAdmitted, RequestFinished
from schemas.runtime.kafka.free_consumer import free_consumer, positions_in
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.topics import DISPATCH, OUTCOMES, REQUESTS

MOST_RECORDS: Final = 100_000
_READ_WITHIN_S: Final = 20.0
_POLL_MS: Final = 500
_TOPICS: Final = (REQUESTS, DISPATCH, OUTCOMES)


@dataclass
class StageLog:
    """The end of the topics when a run began; without brokers nothing is read."""

    consumer: AIOKafkaConsumer | None = None
    begin: dict[TopicPartition, int] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def opened(cls, brokers: str | None) -> AsyncIterator[StageLog]:
        """Remember where the topics end now. Raises ``KafkaError``."""
        if brokers is None:
            yield cls()
            return
        async with free_consumer(brokers) as consumer:
            partitions = [
                TopicPartition(topic.name, number)
                for topic in await list_topics(brokers)
                if topic.name in _TOPICS
                for number in range(topic.partitions)
            ]
            consumer.assign(partitions)
            ends = await positions_in(consumer, partitions)
            yield cls(consumer, {each: found.end for each, found in ends.items()})

    async def read(self, samples: Sequence[Sample]) -> list[Times]:
        """The steps of each request that was answered well, as far as the log and the client know them."""
        steps: dict[str, dict[str, float]] = {
            sample.request_id: {
                "sent": sample.ended_ms - sample.latency_s * 1_000,
                "replied": float(sample.ended_ms),
            }
            for sample in samples
            if sample.request_id and sample.outcome == "ok"
        }
        if self.consumer is not None:
            async with asyncio.timeout(_READ_WITHIN_S):
                await self._read_into(steps, self.consumer)
        return [times for times in steps.values() if "finished" in times]

    async def _read_into(
        self, steps: dict[str, dict[str, float]], consumer: AIOKafkaConsumer
    ) -> None:
        ends = await positions_in(consumer, list(self.begin))
        for partition, offset in self.begin.items():
            consumer.seek(partition, offset)
        left = {each for each, begin in self.begin.items() if begin < ends[each].end}
        seen = 0
        while left and seen < MOST_RECORDS:
            for partition, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                seen += len(records)
                for record in records:
                    _note(steps, record.value)
                    if record.offset + 1 >= ends[partition].end:
                        left.discard(partition)


def _note(steps: dict[str, dict[str, float]], raw: bytes | None) -> None:
    try:
        event = decode(raw)
    except UNDECODABLE:
        return
    times = steps.get(getattr(event, "request_id", ""))
    if times is None:
        return
    match event:
        case RequestAccepted():
            times["accepted"] = event.accepted_at_ms
        case RequestAdmitted():
            times["admitted"] = event.admitted_at_ms
        case RequestFinished():
            times["finished"] = event.finished_at_ms
            if event.attempts:
                times["started"] = event.attempts[-1].started_at_ms
                times["answered"] = event.attempts[-1].finished_at_ms
