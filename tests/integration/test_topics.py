"""Topics on a real broker: what exists gets the settings of the list, and keeps an operator's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.runtime.kafka.topic_admin import PartitionCountChanged, apply_topics
from schemas.topics import OUTCOMES, REQUESTS, TOPICS
from tests.support.harness.infrastructure import infrastructure

pytestmark = pytest.mark.timeout(180)


async def _settings_of(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((_, _, _, _, entries),) = answer.resources
    return {name: value for name, value, _, source, *_ in entries if source == 1}


async def _until_broker_says(admin: AIOKafkaAdminClient, settings: dict[str, str]) -> None:
    """A broker learns of a change from its controller, a moment after that accepted it."""
    async with asyncio.timeout(10):
        while await _settings_of(admin, REQUESTS) != settings:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)


async def test_existing_topics_get_the_settings_of_the_list(tmp_path: Path) -> None:
    """Those of an older version are corrected once; what an operator set beside them stays."""
    lists = {topic.name: topic.settings() for topic in TOPICS}
    async with infrastructure(tmp_path) as stack:
        first = await apply_topics(stack.kafka_brokers, 2)
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka_brokers)
        await admin.start()
        try:
            old = {"retention.ms": "1000", "compression.type": "zstd"}
            resource = ConfigResource(ConfigResourceType.TOPIC, REQUESTS, configs=old)
            await admin.alter_configs([resource])
            await _until_broker_says(admin, old)
            second = await apply_topics(stack.kafka_brokers, 2)
            await _until_broker_says(admin, lists[REQUESTS] | {"compression.type": "zstd"})
            third = await apply_topics(stack.kafka_brokers, 2)
            requests, outcomes = [await _settings_of(admin, t) for t in (REQUESTS, OUTCOMES)]
        finally:
            await admin.close()
        with pytest.raises(PartitionCountChanged):
            await apply_topics(stack.kafka_brokers, 3)

    assert all(state.created and not state.changed for state in first)
    assert [state.name for state in second if state.changed] == [REQUESTS]
    assert not any(state.changed or state.created for state in third)
    assert requests == lists[REQUESTS] | {"compression.type": "zstd"}
    assert outcomes == lists[OUTCOMES]
    assert {state.partitions for state in third} == {1, 2}
