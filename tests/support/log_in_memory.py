"""A log in memory, as a rebuild reads it: partitions of records, and nothing of a broker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord, TopicPartition

from accounting.rebuild.records import LogRecord
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.free_consumer import Positions

_PAGE = 7


@dataclass
class LogInMemory:
    """Records by partition; nothing is ever removed."""

    partitions: dict[TopicPartition, list[ConsumerRecord]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def append(self, record: Outgoing, partition: int, at_ms: int) -> int:
        """The offset of the record, which was appended at that time."""
        at = TopicPartition(record.topic, partition)
        offset = len(self.partitions[at])
        self.partitions[at].append(
            ConsumerRecord(
                topic=record.topic,
                partition=partition,
                offset=offset,
                timestamp=at_ms,
                timestamp_type=1,
                key=record.key,
                value=record.value,
                checksum=None,
                serialized_key_size=len(record.key),
                serialized_value_size=len(record.value or b""),
                headers=tuple(record.headers),
            )
        )
        return offset

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Positions]:
        """Where each begins and ends."""
        return {at: Positions(0, len(self.partitions[at])) for at in partitions}

    async def first_since(self, partition: TopicPartition, at_ms: int, end: int) -> int:
        """The first record that was appended then or later."""
        later = (r.offset for r in self.partitions[partition] if r.timestamp >= at_ms)
        return min(end, next(later, end))

    async def pages(
        self, partition: TopicPartition, begin: int, end: int
    ) -> AsyncIterator[list[LogRecord]]:
        """The records, a few at a time."""
        wanted = self.partitions[partition][begin:end]
        for at in range(0, len(wanted), _PAGE):
            yield list[LogRecord](wanted[at : at + _PAGE])
