"""Partitions of the log in memory, behind the methods of a consumer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndTimestamp

from schemas.topics import BACKGROUND, DISPATCH, OUTCOMES, REQUESTS, USAGE_RECORDS

_TOPICS = (REQUESTS, BACKGROUND, DISPATCH, OUTCOMES, USAGE_RECORDS)


@dataclass
class LogRecord:
    """A record as a consumer has it."""

    topic: str
    offset: int
    timestamp: int
    headers: tuple[tuple[str, bytes], ...]
    value: bytes
    partition: int = 0


@dataclass
class MemoryPartition:
    """Records with their times; what was deleted before them is ``begin``."""

    topic: str
    records: list[LogRecord] = field(default_factory=list)
    begin: int = 0

    def add(
        self, request_id: str, at_ms: int, *, broker_ahead_ms: int = 0, value: bytes = b"x"
    ) -> None:
        """A record of a request that was accepted then, and appended at once."""
        time = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds")
        headers = (("ce_time", time.encode()), ("request_id", request_id.encode()))
        appended_ms = at_ms + broker_ahead_ms
        self.records.append(LogRecord(self.topic, self.end, appended_ms, headers, value))

    @property
    def end(self) -> int:
        return self.begin + len(self.records)


class MemoryPartitions:
    """A consumer of partitions in memory."""

    def __init__(self) -> None:
        self.topics = {topic: MemoryPartition(topic) for topic in _TOPICS}
        self.read: list[int] = []
        self.seeks = 0
        self.is_away = False
        self._at: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        if self.is_away:
            raise KafkaConnectionError

    async def stop(self) -> None: ...

    def unsubscribe(self) -> None:
        self._at.clear()

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._at = dict.fromkeys(partitions, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.seeks += 1
        self._at[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self._at[partition]

    async def beginning_offsets(self, wanted: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self.topics[each.topic].begin for each in wanted}

    async def end_offsets(self, wanted: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self.topics[each.topic].end for each in wanted}

    async def offsets_for_times(
        self, wanted: dict[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        return {
            each: next(
                (
                    OffsetAndTimestamp(record.offset, record.timestamp)
                    for record in self.topics[each.topic].records
                    if record.timestamp >= since_ms
                ),
                None,
            )
            for each, since_ms in wanted.items()
        }

    async def getmany(
        self, *, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[LogRecord]]:
        ((partition, offset),) = self._at.items()
        held = self.topics[partition.topic]
        found = held.records[offset - held.begin :][: min(2, max_records)]
        self._at[partition] = offset + len(found)
        self.read += [record.offset for record in found]
        return {partition: found}
