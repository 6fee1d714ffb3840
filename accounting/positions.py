"""Reads how far the outcomes reach, and how far accounting is in them, by what its group committed at the broker.

The ledger's store has marks of that as well, and they are no witness: whether that store has what the log has is
the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from accounting.earlier import LogUnreadable
from schemas.runtime.kafka.free_consumer import committed_offsets, free_consumer, positions_in
from schemas.topics import OUTCOMES, group_of

__all__ = ["OutcomePositions", "Positions"]

_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Positions:
    """Offsets of one partition: where accounting's group goes on, the oldest record, and after the newest."""

    committed: int
    begin: int
    end: int

    @property
    def done(self) -> int:
        """Up to where accounting is done: what retention took, nobody books."""
        return max(self.committed, self.begin)


@dataclass(frozen=True, slots=True)
class OutcomePositions:
    """The outcomes topic of these brokers."""

    brokers: str

    async def read(self, partitions: Collection[int]) -> dict[int, Positions]:
        """The positions of the partitions. Raises ``LogUnreadable``."""
        group = group_of("accounting")
        wanted = [TopicPartition(OUTCOMES, number) for number in partitions]
        try:
            committed = (await committed_offsets(self.brokers, [group]))[group]
            async with asyncio.timeout(_WITHIN_S), free_consumer(self.brokers) as consumer:
                stands = await positions_in(consumer, wanted)
        except (TimeoutError, KafkaError) as error:
            raise LogUnreadable(f"positions of {OUTCOMES}: {error!r}") from error
        return {
            p.partition: Positions(committed.get(p, 0), at.begin, at.end)
            for p, at in stands.items()
        }
