"""Creates the topics of ``schemas.topics``, keeps their settings, refuses a changed partition count.

A key's partition follows from the count, so changing it would split an organization's history.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from schemas.config_signing import Signer
from schemas.failures import Defect
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.log_birth import state_birth
from schemas.topics import TOPICS, Topic

DEFAULT_PARTITIONS = 12
_NAMES: Final = tuple(topic.name for topic in TOPICS)

_SET_ON_TOPIC = 1
"""Kafka's ``config_source`` of what was set on the topic itself."""


class PartitionCountChanged(Defect):
    """A topic exists with another partition count than the one asked for."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """One listed topic as the broker has it; ``partitions`` is 0 when it is missing."""

    name: str
    partitions: int
    created: bool = False
    changed: bool = False
    """Whether its settings were other than the list's."""


async def apply_topics(
    brokers: str,
    partitions: int = DEFAULT_PARTITIONS,
    replicas: int = 1,
    signer: Signer | None = None,
) -> list[TopicState]:
    """Create what is missing, and say which log it is from then on, signed where there is a signer.

    Raises ``PartitionCountChanged`` before creating anything.
    """
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
    present = [t for t in TOPICS if existing[t.name].partitions > 0]
    admin = AIOKafkaAdminClient(**client_options(brokers))
    await admin.start()
    try:
        if missing:
            new = [
                NewTopic(t.name, wanted[t.name], replicas, topic_configs=t.settings())
                for t in missing
            ]
            await admin.create_topics(new, timeout_ms=20_000)
        altered = await _alter(admin, present)
    finally:
        await admin.close()
    created = {t.name for t in missing}
    await state_birth(brokers, created, signer)
    return [
        TopicState(name, count, name in created, name in altered) for name, count in wanted.items()
    ]


async def _alter(admin: AIOKafkaAdminClient, present: list[Topic]) -> set[str]:
    """Give topics the settings of the list; the names of those that had others.

    What else an operator set on a topic stays, though altering replaces all that is not named.
    """
    described = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in present]
    )
    found: dict[str, dict[str, str]] = {}
    for answer in described:
        for error, message, _, name, entries in answer.resources:
            if error:
                raise for_code(error)(message)
            found[name] = {
                setting: value
                for setting, value, _, source, *_ in entries
                if source == _SET_ON_TOPIC and value is not None
            }
    changes = {t.name: found[t.name] | t.settings() for t in present}
    changes = {name: settings for name, settings in changes.items() if settings != found[name]}
    if changes:
        answers = await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, n, configs=s) for n, s in changes.items()]
        )
        for answer in answers:
            for error, message, *_ in answer.resources:
                if error:
                    raise for_code(error)(message)
    return set(changes)


async def cluster_id_of(brokers: str) -> str | None:
    """The id that the cluster was formatted with. Raises ``KafkaError`` when no broker answers."""
    admin = AIOKafkaAdminClient(**client_options(brokers))
    await admin.start()
    try:
        described = await admin.describe_cluster()
    finally:
        await admin.close()
    cluster_id = described.get("cluster_id")
    return cluster_id if isinstance(cluster_id, str) and cluster_id else None


async def list_topics(brokers: str, names: Collection[str] = _NAMES) -> list[TopicState]:
    """The listed topics as the broker has them, or some: a process is told of its own only."""
    admin = AIOKafkaAdminClient(**client_options(brokers))
    await admin.start()
    try:
        described = await admin.describe_topics(list(names))
    finally:
        await admin.close()
    counts = {d["topic"]: len(d["partitions"]) for d in described if d["error_code"] == 0}
    return [TopicState(name, counts.get(name, 0)) for name in names]
