"""What was processed stays processed on a real Kafka, and what cannot be read waits: partition by partition."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from deploy.embedded.stack import Stack
from schemas import topics
from schemas.ledger import keys
from schemas.runtime.kafka.topic_admin import apply_topics
from tests.integration.group import Member, log, member
from tests.support.harness.foreign_store import open_foreign

pytestmark = pytest.mark.timeout(180)

_GROUP = "tallygate-member"
_NEWER = b"\x00\x00\x00\x00cnewer"


async def _send(producer: AIOKafkaProducer, value: str, partition: int = 0) -> None:
    await producer.send_and_wait(topics.REQUESTS, value.encode(), b"k", partition)


async def _set_group(stack: Stack, offset: int, partition: int = 0) -> int:
    """Where the group was; it then is at the offset, as a tool would leave it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka_brokers, group_id=_GROUP, enable_auto_commit=False
    )
    await consumer.start()
    at = TopicPartition(topics.REQUESTS, partition)
    consumer.assign([at])
    committed = await consumer.committed(at)
    if offset >= 0:
        await consumer.commit({at: OffsetAndMetadata(offset, "")})
    await consumer.stop()
    return committed or 0


async def _until_held(only: Member, partition: int) -> str:
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        page = await only.readiness()
        cause = page["components"].get(f"{topics.REQUESTS}-{partition}")
        if cause is not None:
            assert page["code"] == 200
            return str(cause)
        await asyncio.sleep(0.2)
    raise AssertionError(page)


async def test_a_group_that_was_reset_to_its_earliest_offset_does_nothing_again(
    tmp_path: Path,
) -> None:
    """A slow head, and what was finished beyond it, included; the group is where it was."""
    async with log(tmp_path) as (stack, producer):
        with member(stack, tmp_path, "a", TALLYGATE_SESSION_TIMEOUT_S="6") as first:
            for number in range(20):
                await _send(producer, f"n{number}")
            await first.until("end", 20)
            await _send(producer, "slow:60")
            for number in range(20, 40):
                await _send(producer, f"n{number}")
            await first.until("end", 40)
            await asyncio.sleep(3.0)  # for the commit, and for the mark beside it
            first.process.kill()
            first.process.wait()
        await asyncio.sleep(6.5)  # its session ends, or nobody may set the group
        assert await _set_group(stack, 0) == 20
        await _send(producer, "later")
        with member(stack, tmp_path, "a", 1) as second:
            await second.until("end", 1)
            await asyncio.sleep(1.5)

            assert sorted(value for _, value, _ in second.begun()) == ["later", "slow:60"]
        assert await _set_group(stack, -1) == 20


async def test_a_record_of_a_newer_schema_holds_its_partition_until_a_newer_version_comes(
    tmp_path: Path,
) -> None:
    """The other partition goes on, readiness names it, and nothing of it is lost or dead-lettered."""
    async with log(tmp_path) as (stack, producer):
        with member(stack, tmp_path, "a") as old:
            await _send(producer, "before")
            await old.until("end", 1)
            await producer.send_and_wait(topics.REQUESTS, _NEWER, b"k", 0)
            for number in range(5):
                await _send(producer, f"behind{number}")
                await _send(producer, f"beside{number}", 1)
            await old.until("end", 6)
            cause = await _until_held(old, 0)
            assert "unknown_schema: id 99" in cause
            await asyncio.sleep(1.0)
            begun = {value for _, value, _ in old.begun()}
            assert begun == {"before", *(f"beside{n}" for n in range(5))}
            old.process.terminate()
            assert old.process.wait(20) == 0
        with member(stack, tmp_path, "a", 1, MEMBER_KNOWS="99") as new:
            await new.until("end", 6)

            begun = {value for _, value, _ in new.begun()}
            assert begun == {_NEWER.decode(), *(f"behind{n}" for n in range(5))}
            assert (await new.readiness())["status"] == "ok"


async def test_a_topic_that_was_made_anew_is_not_skipped(tmp_path: Path) -> None:
    """However many records it has by then; its partitions wait for an operator, who is told what to do."""
    new = {0: 3, 1: 30}
    async with log(tmp_path) as (stack, producer):
        with member(stack, tmp_path, "a") as first:
            for number in range(10):
                for partition in new:
                    await _send(producer, f"old{number}", partition)
            await first.until("end", 20)
            await asyncio.sleep(2.5)
            first.process.terminate()
            assert first.process.wait(20) == 0
        await _make_anew(stack)
        for partition, count in new.items():
            for number in range(count):
                await _send(producer, f"new{number}", partition)
        with member(stack, tmp_path, "a", 1) as second:
            await _send(producer, "beside", 2)
            await second.until("end", 1)
            assert "up to offset 10, but the log ends at 3" in await _until_held(second, 0)
            assert "up to offset 10 in another log" in await _until_held(second, 1)
            assert [value for _, value, _ in second.begun()] == ["beside"]
            with open_foreign(stack.ledger_url) as ledger:
                for partition in new:
                    assert ledger.delete(keys.processed(topics.REQUESTS, partition)) == 1
            await second.until("end", 1 + 33)

            for partition, count in new.items():
                begun = [value for _, value, at in second.begun() if at == partition]
                assert begun == [f"new{number}" for number in range(count)]


async def _make_anew(stack: Stack) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka_brokers)
    await admin.start()
    await admin.delete_topics([topics.REQUESTS])
    await asyncio.sleep(1.0)
    await admin.close()
    await apply_topics(stack.kafka_brokers, 4)
