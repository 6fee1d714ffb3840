"""How far each worker is behind the log, in records and in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka import TopicPartition

from schemas.runtime.kafka.free_consumer import Positions
from schemas.topics import READ_BY, group_of

GROUP_TOPICS: Final[Mapping[str, frozenset[str]]] = {
    group_of(role): frozenset(topics) for role, topics in READ_BY.items()
}
"""Consumer groups, and what each of them reads."""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition as one group has read it; ``committed`` is null when it never committed.

    ``lag_ms`` is the age of the oldest record that is not acknowledged; null when it is not known.
    """

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    lag_ms: int | None


def next_offset(committed: int | None, at: Positions) -> int:
    """The first offset that the group has not acknowledged; what retention took is behind it."""
    return at.begin if committed is None else max(committed, at.begin)


def lags_of(
    committed: Mapping[str, Mapping[TopicPartition, int]],
    positions: Mapping[TopicPartition, Positions],
    appended_at_ms: Mapping[TopicPartition, int],
    now_ms: int,
) -> list[PartitionLag]:
    """Every partition of every group, by name; ``appended_at_ms`` is of the records at its offsets."""
    lags = []
    for group, topics in GROUP_TOPICS.items():
        for partition in sorted(p for p in positions if p.topic in topics):
            at = positions[partition]
            offset = committed.get(group, {}).get(partition)
            behind = max(0, at.end - next_offset(offset, at))
            age_ms = None
            if behind == 0:
                age_ms = 0
            elif partition in appended_at_ms:
                age_ms = max(0, now_ms - appended_at_ms[partition])
            lag = PartitionLag(
                group=group,
                topic=partition.topic,
                partition=partition.partition,
                committed=offset,
                end=at.end,
                lag=behind,
                lag_ms=age_ms,
            )
            lags.append(lag)
    return lags
