"""The plan of a replay: which records of a topic would be read. Reads offsets, and no record unless they are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from accounting.rebuild.log import Log, open_log
from deploy.replay.problem import ReplayProblem
from deploy.replay.ranges import Bounds, Range, Stretch, stretch_of
from deploy.replay.selection import Selection
from schemas import events
from schemas.codec import UNDECODABLE, decode
from schemas.runtime.kafka.access import client_options
from schemas.topics import ORIGINAL_BYTES, RESULT_BYTES, TOPICS

__all__ = ["Plan", "Source", "counted", "open_source", "planned"]

_FIELDS: Final = {"org": "orgs", "model": "models", "status": "statuses"}
_TOPICS: Final = {topic.name: topic for topic in TOPICS}


@dataclass(frozen=True, slots=True)
class Plan:
    """The stretches of a topic that a replay reads, and which of their records it takes."""

    topic: str
    stretches: tuple[Stretch, ...]
    selection: Selection

    @property
    def records(self) -> int:
        """How many are read at most."""
        return sum(each.records for each in self.stretches)


@dataclass(frozen=True, slots=True)
class Source:
    """A topic that is read outside of any group, and how many partitions it has."""

    log: Log
    topic: str
    partitions: int


@asynccontextmanager
async def open_source(brokers: str, topic: str) -> AsyncIterator[Source]:
    """The topic at these brokers. Raises ``ReplayProblem`` when it is not there, and ``LogUnreadable``."""
    async with open_log(brokers) as log:
        count = await partitions_of(brokers, topic)
        if count == 0:
            raise ReplayProblem(
                f"there is no topic {topic}",
                "the broker does not know it",
                f"name a copy that exists, or one of: {', '.join(_TOPICS)}",
            )
        yield Source(log, topic, count)


async def partitions_of(brokers: str, topic: str) -> int:
    """How many partitions the topic has; 0 when there is none. Raises ``KafkaError``."""
    admin = AIOKafkaAdminClient(**client_options(brokers))
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return 0 if described["error_code"] else len(described["partitions"])


async def planned(source: Source, wanted: Range, selection: Selection) -> Plan:
    """What the range comes to now. Raises ``ReplayProblem`` for what can choose nothing."""
    check_selection(source.topic, selection)
    unknown = sorted(number for number in wanted.partitions if number >= source.partitions)
    if unknown:
        raise ReplayProblem(
            f"{source.topic} has no partition {unknown[0]}",
            f"it has {source.partitions}, counted from 0",
            "name partitions that it has",
            is_usage=True,
        )
    numbers = sorted(wanted.partitions) or range(source.partitions)
    bounds = await _bounds(source, wanted, numbers)
    stretches = tuple(stretch_of(wanted, number, bounds[number]) for number in numbers)
    return Plan(source.topic, stretches, selection)


async def _bounds(source: Source, wanted: Range, numbers: Any) -> dict[int, Bounds]:
    partitions = [TopicPartition(source.topic, number) for number in numbers]
    stands = await source.log.bounds(partitions)
    found = {}
    for partition, at in stands.items():
        times = [
            None if ms is None else await source.log.first_since(partition, ms, at.end)
            for ms in (wanted.from_ms, wanted.to_ms)
        ]
        found[partition.partition] = Bounds(at.begin, at.end, *times)
    return found


def check_selection(topic: str, selection: Selection) -> None:
    """Raises ``ReplayProblem`` for a filter by what no record of a listed topic says."""
    listed = _TOPICS.get(topic)
    if listed is None:
        return
    if listed.records in (ORIGINAL_BYTES, RESULT_BYTES) and not selection.is_all:
        raise ReplayProblem(
            f"records of {topic} cannot be told apart",
            "they are the bytes of somebody else",
            "leave --org, --model and --status away",
            is_usage=True,
        )
    for field, name in _FIELDS.items():
        kinds = [getattr(events, kind) for kind in listed.records if hasattr(events, kind)]
        if getattr(selection, name) and not any(field in k.__struct_fields__ for k in kinds):
            raise ReplayProblem(
                f"records of {topic} have no {field}",
                f"they are {' and '.join(listed.records)}",
                f"leave --{field} away, or replay another topic",
                is_usage=True,
            )


async def counted(source: Source, plan: Plan, tell: Callable[[int], None]) -> Counter[str]:
    """How many records of the plan are ``wanted``, ``left_out`` and ``undecodable``. Reads all of them, into nothing."""
    found: Counter[str] = Counter()
    for stretch in plan.stretches:
        partition = TopicPartition(plan.topic, stretch.partition)
        async for page in source.log.pages(partition, stretch.begin, stretch.end):
            for record in page:
                try:
                    is_wanted = plan.selection.wants(decode(record.value))
                except UNDECODABLE:
                    found["undecodable"] += 1
                else:
                    found["wanted" if is_wanted else "left_out"] += 1
            tell(len(page))
    return found
