"""Single records read where they stand on a real Kafka, and what is left of them in memory."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.events import RecordRef
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.kafka.record_reader import RecordGone, RecordReader
from tests.support.harness.infrastructure import infrastructure

pytestmark = pytest.mark.timeout(120)

_TOPIC = "bodies"
_MIB = 1024 * 1024
_READS = 24


async def _produced(brokers: str, values: list[bytes]) -> list[RecordRef]:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        settings = {"max.message.bytes": str(8 * _MIB)}
        await admin.create_topics([NewTopic(_TOPIC, 1, 1, topic_configs=settings)])
    finally:
        await admin.close()
    producer = Producer(brokers, "test")
    await producer.start([_TOPIC])
    try:
        return [await producer.send(Outgoing(_TOPIC, b"k", value)) for value in values]
    finally:
        await producer.stop()


async def test_nothing_is_left_of_large_records_that_were_read(tmp_path: Path) -> None:
    """Each is freed by its reference count: cycles of whole bodies would wait for the collector."""
    async with infrastructure(tmp_path) as stack:
        first, second = await _produced(stack.kafka_brokers, [b"a" * 4 * _MIB, b"b" * 4 * _MIB])
        reader = RecordReader(stack.kafka_brokers)
        try:
            await reader.read(first, 10.0)
            before = psutil.Process().memory_info().rss
            gc.disable()
            for _ in range(_READS):
                assert (await reader.read(second, 10.0) or b"")[:1] == b"b"
            grown = psutil.Process().memory_info().rss - before
        finally:
            gc.enable()
            await reader.stop()

    assert grown < 10 * 4 * _MIB


async def test_a_record_that_is_not_there_yet_is_not_waited_for_above_its_time(
    tmp_path: Path,
) -> None:
    """An offset beyond the end, as of a topic that was made anew, is out of range at once."""
    async with infrastructure(tmp_path) as stack:
        (only,) = await _produced(stack.kafka_brokers, [b"x"])
        reader = RecordReader(stack.kafka_brokers)
        beyond = RecordRef(topic=_TOPIC, partition=0, offset=only.offset + 5)
        began_s = time.monotonic()
        try:
            with pytest.raises(RecordGone):
                await asyncio.wait_for(reader.read(beyond, 3.0), 10)
            assert await reader.read(only, 3.0) == b"x"
        finally:
            await reader.stop()

    assert time.monotonic() - began_s < 5.0
