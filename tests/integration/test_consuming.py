"""Consuming from a real Kafka: what is finished stays finished, and partitions move without a pause."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from schemas import topics
from tests.integration.group import PARTITIONS, Member, log, member

pytestmark = pytest.mark.timeout(180)


async def _send(producer: AIOKafkaProducer, value: str, partition: int) -> None:
    await producer.send_and_wait(topics.REQUESTS, value.encode(), b"k", partition)


async def test_finished_records_behind_a_slow_one_survive_a_kill(tmp_path: Path) -> None:
    """The next run is handed the slow one only, and what it finished counts as committed."""
    async with log(tmp_path) as (stack, producer):
        with member(stack, tmp_path, "a") as first:
            await _send(producer, "slow:60", 0)
            for number in range(300):
                await _send(producer, f"quick{number}", 0)
            await first.until("end", 300)
            await asyncio.sleep(1.5)  # for the next commit
            first.process.kill()
            first.process.wait()
        await _send(producer, "later", 0)
        with member(stack, tmp_path, "a", 1) as second:
            await second.until("end", 1)
            await asyncio.sleep(1.0)

            assert sorted(value for _, value, _ in second.begun()) == ["later", "slow:60"]


async def test_a_partition_at_its_bound_is_paused_alone_and_resumed_at_once(tmp_path: Path) -> None:
    """The other partition does not notice; readiness names the cause and stays 200."""
    async with log(tmp_path) as (stack, producer):
        with member(stack, tmp_path, "a", MEMBER_RECORDS_MAX="64") as only:
            await _send(producer, "warm", 1)
            await only.until("end", 1)
            for number in range(40):
                await _send(producer, f"slow{number}:3", 0)
            await only.until("begin", 1 + 16)
            page = await only.readiness()
            assert (page["code"], page["status"]) == (200, "degraded")
            assert page["components"][f"{topics.REQUESTS}-0"].startswith("paused: ")
            for number in range(20):
                await _send(producer, f"quick{number}", 1)
            await only.until("end", 21, deadline_s=2.0)
            await only.until("end", 61)

            begun = [at for at, value, _ in only.begun() if value.startswith("slow")]
            assert len(begun) == 40
            # Each wave of three seconds is followed by the next without the reader's sleep of a second.
            assert begun[-1] - begun[0] < 3 * 3.0 + 1.0
            assert (await only.readiness())["status"] == "ok"


async def test_a_member_that_leaves_hands_its_partitions_over_before_it_drains(
    tmp_path: Path,
) -> None:
    """No partition stands still for long, its slow call ends where it began, and its exit is clean."""
    async with log(tmp_path) as (stack, producer):
        with member(stack, tmp_path, "a") as first, member(stack, tmp_path, "b") as other:
            await _both_read(producer, first, other)
            for partition in range(PARTITIONS):
                await _send(producer, f"slow{partition}:6", partition)
            feed = asyncio.create_task(_feed(producer, seconds=10.0))
            await asyncio.sleep(3.0)
            first.process.send_signal(signal.SIGTERM)
            left_at = time.time()
            await feed
            await asyncio.sleep(2.0)

            assert first.process.wait(20) == 0
            begun = [*first.begun(), *other.begun()]
            assert {v for _, v, _ in begun} >= {f"n{n}" for n in range(_fed(feed))}
            gap_s = _longest_gap(begun, left_at)
            print(f"longest gap of a partition: {gap_s:.2f} s")
            assert gap_s < 3.0
            slow = {line[1] for line in first.said() if line[0] == "begin" and "slow" in line[1]}
            assert slow
            assert slow == {
                line[1] for line in first.said() if line[0] == "end" and "slow" in line[1]
            }


async def test_a_member_that_is_alone_keeps_its_place(tmp_path: Path) -> None:
    """Its next run reads on within seconds, and what it finished is committed."""
    async with log(tmp_path) as (stack, producer):
        with member(stack, tmp_path, "a") as first:
            for number in range(50):
                await _send(producer, f"n{number}", number % PARTITIONS)
            await first.until("end", 50)
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(20) == 0
        await _send(producer, "later", 0)
        with member(stack, tmp_path, "a", 1) as second:
            await second.until("ready")
            await second.until("end", 1, deadline_s=6.0)

            assert [value for _, value, _ in second.begun()] == ["later"]


async def _both_read(producer: AIOKafkaProducer, *members: Member) -> None:
    """Send until every member was handed something."""
    for number in itertools.count():
        await _send(producer, "warm", number % PARTITIONS)
        await asyncio.sleep(0.05)
        if all(each.begun() for each in members):
            break
        assert number < 1_000
    await asyncio.sleep(2.0)


async def _feed(producer: AIOKafkaProducer, seconds: float) -> int:
    """A record every ten milliseconds, one partition after the other; how many."""
    end_s = time.monotonic() + seconds
    for number in itertools.count():
        await _send(producer, f"n{number}", number % PARTITIONS)
        await asyncio.sleep(0.01)
        if time.monotonic() > end_s:
            return number + 1
    raise AssertionError


def _fed(feed: asyncio.Task[int]) -> int:
    return feed.result()


def _longest_gap(begun: list[tuple[float, str, int]], since: float) -> float:
    """The longest time in which no record of some partition was begun."""
    longest = 0.0
    for partition in range(PARTITIONS):
        times = sorted(at for at, _, of in begun if of == partition and at > since - 1)
        longest = max(longest, *(b - a for a, b in itertools.pairwise(times)))
    return longest
