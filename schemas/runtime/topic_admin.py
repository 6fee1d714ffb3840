"""Creates the topics of ``schemas.topics`` and refuses a changed partition count.

A key's partition follows from the count, so changing it would split an organization's history.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.failures import Defect
from schemas.topics import TOPICS

DEFAULT_PARTITIONS = 12


class PartitionCountChanged(Defect):
    """A topic exists with another partition count than the one asked for."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """One listed topic as the broker has it; ``partitions`` is 0 when it is missing."""

    name: str
    partitions: int
    created: bool = False


async def apply_topics(
    brokers: str, partitions: int = DEFAULT_PARTITIONS, replicas: int = 1
) -> list[TopicState]:
    """Create what is missing. Raises ``PartitionCountChanged`` before creating anything."""
    existing = {state.name: state for state in await list_topics(brokers)}
    wanted = {t.name: 1 if t.one_partition else partitions for t in TOPICS}
    changed = [
        f"{name} has {existing[name].partitions} partitions, not {count}"
        for name, count in wanted.items()
        if existing[name].partitions not in (0, count)
    ]
    if changed:
        raise PartitionCountChanged("; ".join(changed))
    missing = [t for t in TOPICS if existing[t.name].partitions == 0]
    if missing:
        admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
        await admin.start()
        try:
            await admin.create_topics(
                [
                    NewTopic(t.name, wanted[t.name], replicas, topic_configs=t.settings())
                    for t in missing
                ],
                timeout_ms=20_000,
            )
        finally:
            await admin.close()
    created = {t.name for t in missing}
    return [TopicState(name, count, name in created) for name, count in wanted.items()]


async def list_topics(brokers: str) -> list[TopicState]:
    """The listed topics as the broker has them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        described = await admin.describe_topics([topic.name for topic in TOPICS])
    finally:
        await admin.close()
    counts = {d["topic"]: len(d["partitions"]) for d in described if d["error_code"] == 0}
    return [TopicState(topic.name, counts.get(topic.name, 0)) for topic in TOPICS]
