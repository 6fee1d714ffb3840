"""Producing to a real Kafka: a refused record costs itself, and the partition goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.events import RecordRef
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import Producer, ProduceRefused
from tests.support.harness.infrastructure import infrastructure

pytestmark = pytest.mark.timeout(120)

_SMALL = "small"


async def _create_topic(brokers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        small = NewTopic(_SMALL, 2, 1, topic_configs={"max.message.bytes": "20000"})
        await admin.create_topics([small])
    finally:
        await admin.close()


async def _values(brokers: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=brokers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), 10)).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_later_records_of_the_partition_go_through_after_a_refused_one(
    tmp_path: Path,
) -> None:
    """Too large for its topic, in a batch with others; each time the sequence is begun anew."""
    async with infrastructure(tmp_path) as stack:
        await _create_topic(stack.kafka_brokers)
        producer = Producer(stack.kafka_brokers, "test")
        await producer.start([_SMALL])
        try:
            batch = [b"1", b"2", b"x" * 30_000, b"3", b"4"]
            results = await asyncio.gather(
                *(producer.send(Outgoing(_SMALL, b"k", value)) for value in batch),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [
                RecordRef, RecordRef, ProduceRefused, RecordRef, RecordRef,
            ]  # fmt: skip
            began_s = time.monotonic()
            await producer.deliver([Outgoing(_SMALL, b"k", b"5")], began_s + 10)
            # What is too large only together is sent apart.
            halves = [Outgoing(_SMALL, b"k", letter * 12_000) for letter in (b"a", b"b", b"c")]
            await producer.deliver(halves, time.monotonic() + 10)
            with pytest.raises(ProduceRefused):
                await producer.deliver(
                    [Outgoing(_SMALL, b"k", b"y" * 30_000)], time.monotonic() + 10
                )
            await producer.deliver([Outgoing(_SMALL, b"k", b"6")], time.monotonic() + 10)
            assert time.monotonic() - began_s < 5.0
        finally:
            await producer.stop()
        found = await _values(stack.kafka_brokers, _SMALL, 9)

    assert sorted(found, key=len)[:6] == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert sorted(found, key=len)[6:] == [b"a" * 12_000, b"b" * 12_000, b"c" * 12_000]
