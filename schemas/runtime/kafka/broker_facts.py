"""What the brokers have: topics with their settings, and who is allowed what. For whoever may ask, which no process may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import SecurityDisabled, for_code
from aiokafka.protocol.admin import DescribeAclsRequest

from schemas.runtime.kafka.access import client_options
from schemas.topic_facts import Acl, TopicFacts
from schemas.topics import TOPICS

__all__ = ["acls_of", "topics_of"]

_ANY: Final = 1
"""Of Kafka's protocol: every resource, pattern, operation and permission."""
_RESOURCES: Final = {2: "topic", 3: "group"}
_PATTERNS: Final = {3: "literal", 4: "prefixed"}
_OPERATIONS: Final = {2: "all", 3: "read", 4: "write", 8: "describe"}
_DENY: Final = 2
_LOOK_S: Final = 0.05


async def topics_of(brokers: str) -> list[TopicFacts]:
    """The listed topics. Raises ``KafkaError``."""
    names = [topic.name for topic in TOPICS]
    admin = AIOKafkaAdminClient(**client_options(brokers))
    await admin.start()
    try:
        described = [d for d in await admin.describe_topics(names) if d["error_code"] == 0]
        resources = [ConfigResource(ConfigResourceType.TOPIC, d["topic"]) for d in described]
        settings = _settings(await admin.describe_configs(resources) if resources else ())
    finally:
        await admin.close()
    found = {d["topic"]: d["partitions"] for d in described}
    return [
        TopicFacts(
            name,
            len(found[name]),
            min((len(each["replicas"]) for each in found[name]), default=0),
            settings.get(name, {}),
        )
        if name in found
        else TopicFacts(name)
        for name in names
    ]


def _settings(answers: Iterable[Any]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for error, message, _, name, entries in answer.resources:
            if error:
                raise for_code(error)(message)
            found[name] = {setting: value for setting, value, *_ in entries if value is not None}
    return found


async def acls_of(brokers: str) -> list[Acl] | None:
    """Who is allowed what; ``None`` where the brokers ask nobody. Raises ``KafkaError``, also for who may not see it."""
    client = AIOKafkaClient(**client_options(brokers))
    try:
        await client.bootstrap()
        node = client.get_random_node()
        while not await client.ready(node):  # noqa: ASYNC110  # aiokafka has no event for it
            await asyncio.sleep(_LOOK_S)
        answer = await client.send(
            node, DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY)
        )
    finally:
        await client.close()
    if answer.error_code == SecurityDisabled.errno:
        return None
    if answer.error_code:
        raise for_code(answer.error_code)(answer.error_message)
    return [
        Acl(
            principal,
            _RESOURCES[kind],
            name,
            _PATTERNS.get(pattern, ""),
            _OPERATIONS.get(operation, ""),
            permission == _DENY,
        )
        for kind, name, pattern, entries in answer.resources
        if kind in _RESOURCES
        for principal, _, operation, permission in entries
    ]
