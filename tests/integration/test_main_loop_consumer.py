"""The consumer in the main loop, on a real Kafka: busy loops, rebalances and stops while records come in."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from schemas import topics
from tests.integration.group import PARTITIONS, Member, log, member

pytestmark = pytest.mark.timeout(180)

_BLOCKED_S = 5
"""Half of the group's session timeout."""
_AGAIN_MAX = 150
"""Records that a rebalance may hand out twice: half a second of the load, between two commits."""


class _Load:
    """Records of 300 a second, evenly over the partitions; their values are their numbers."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self.sent = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._send())
        try:
            yield
        finally:
            task.cancel()
            await self._producer.flush()

    async def _send(self) -> None:
        began_s = time.monotonic()
        for number in itertools.count(self.sent):
            await asyncio.sleep(max(0.0, began_s + number / 300 - time.monotonic()))
            await _send(self._producer, f"n{number}", number % PARTITIONS)
            self.sent = number + 1

    async def until_begun(self, members: Iterable[Member]) -> Counter[str]:
        """How often each record was begun, once each was."""
        wanted = {f"n{number}" for number in range(self.sent)}
        end_s = time.monotonic() + 30
        while wanted - (counts := _counts(members)).keys():
            assert time.monotonic() < end_s, f"{len(wanted - counts.keys())} records not begun"
            await asyncio.sleep(0.2)
        return counts


async def _send(producer: AIOKafkaProducer, value: str, partition: int) -> None:
    await producer.send(topics.REQUESTS, value.encode(), b"k", partition)


def _counts(members: Iterable[Member]) -> Counter[str]:
    return Counter(value for each in members for _, value, _ in each.begun() if value[0] == "n")


def _again(counts: Counter[str]) -> int:
    return sum(count - 1 for count in counts.values())


def _generations(*members: Member) -> list[list[str]]:
    return [[line[1] for line in each.said() if line[0] == "assigned"] for each in members]


async def _until_shared(*members: Member) -> None:
    """Wait until all are in one generation, and have all partitions between them."""
    end_s = time.monotonic() + 40
    while True:
        newest = [[line for line in each.said() if line[0] == "assigned"][-1:] for each in members]
        lines = [line for found in newest for line in found]
        owned = sum(int(count) for _, _, count in lines)
        is_same = len({generation for _, generation, _ in lines}) == 1
        if is_same and len(lines) == len(members) and owned == PARTITIONS:
            return
        assert time.monotonic() < end_s, lines
        await asyncio.sleep(0.1)


async def _until_said(line: list[str], *members: Member) -> None:
    end_s = time.monotonic() + 30
    while not any(said[: len(line)] == line for each in members for said in each.said()):
        assert time.monotonic() < end_s, line
        await asyncio.sleep(0.05)


async def test_a_busy_loop_of_seconds_keeps_its_place_in_the_group(tmp_path: Path) -> None:
    """Another member stands ready to take over: it gets nothing, and nothing is handed out twice."""
    async with log(tmp_path) as (stack, producer):
        with member(stack, tmp_path, "a") as one, member(stack, tmp_path, "b") as other:
            await _until_shared(one, other)
            before = _generations(one, other)
            load = _Load(producer)
            async with load.running():
                await asyncio.sleep(1.0)
                await _send(producer, f"block:{_BLOCKED_S}", 0)
                await _until_said(["end", f"block:{_BLOCKED_S}"], one, other)
                # Whoever was put out hears of it with its next heartbeat.
                await asyncio.sleep(3.0)

            counts = await load.until_begun((one, other))
            assert _again(counts) == 0
            assert _generations(one, other) == before


async def test_members_come_and_go_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    """One joins, one is told to stop, one dies: each record is handled, few are handed out again."""
    async with log(tmp_path) as (stack, producer):
        load = _Load(producer)
        with member(stack, tmp_path, "a") as first, member(stack, tmp_path, "b") as stopped:
            await _until_shared(first, stopped)
            async with load.running():
                await asyncio.sleep(1.0)
                with member(stack, tmp_path, "c") as third:
                    await _until_shared(first, stopped, third)
                    await asyncio.sleep(1.0)
                    after_joining = _again(_counts((first, stopped, third)))

                    await _send(producer, "slow:3", _partition_of(stopped))
                    await _until_said(["begin", "slow:3"], stopped)
                    stopped.process.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(stopped.process.wait, 20) == 0
                    await _until_shared(first, third)
                    await asyncio.sleep(1.0)
                    after_stop = _again(_counts((first, stopped, third)))

                    third.process.kill()
                    await asyncio.sleep(0.5)
            counts = await load.until_begun((first, stopped, third))
            again = [after_joining, after_stop, _again(counts)]
            print(f"handed out again by join, stop and kill: {again} of {load.sent}")
            assert ["end", "slow:3"] in stopped.said()
            assert after_joining < _AGAIN_MAX
            assert after_stop - after_joining < _AGAIN_MAX
            assert again[2] - after_stop < 2 * _AGAIN_MAX


def _partition_of(each: Member) -> int:
    """One that it read last."""
    return each.begun()[-1][2]
