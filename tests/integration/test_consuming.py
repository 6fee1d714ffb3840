"""Consuming from a real Kafka: what is finished stays finished, and partitions move without a pause."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from deploy.embedded.stack import Stack
from schemas import topics
from schemas.runtime.kafka.topic_admin import apply_topics
from tests.integration.ledger_server import free_port
from tests.integration.test_embedded_stack import infrastructure

pytestmark = pytest.mark.timeout(180)

_PARTITIONS = 4


@dataclass
class Member:
    """A running consumer, and the file of what it did."""

    process: subprocess.Popen[bytes]
    file: Path
    port: int

    def said(self) -> list[list[str]]:
        """What it did, line by line, without the time."""
        return [line.split()[1:] for line in self.file.read_text().splitlines()]

    def begun(self) -> list[tuple[float, str, int]]:
        """When it began which record of which partition."""
        lines = [line.split() for line in self.file.read_text().splitlines()]
        return [(float(line[0]), line[2], int(line[3])) for line in lines if line[1] == "begin"]

    async def until(self, word: str, count: int = 1, deadline_s: float = 40.0) -> None:
        """Wait until it said so this often."""
        end_s = time.monotonic() + deadline_s
        while sum(line[0] == word for line in self.said()) < count:
            assert self.process.poll() is None, "the member ended"
            assert time.monotonic() < end_s, f"{word} not said {count} times: {self.said()[-3:]}"
            await asyncio.sleep(0.05)

    async def readiness(self) -> dict[str, Any]:
        """The readiness page, with its status."""

        def get() -> dict[str, Any]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz") as page:
                    return {"code": page.status, **json.load(page)}
            except urllib.error.HTTPError as error:
                return {"code": error.code, **json.load(error)}

        return await asyncio.to_thread(get)


@contextmanager
def member(stack: Stack, folder: Path, name: str, run: int = 0, **env: str) -> Iterator[Member]:
    """A member of the group, ended when the block is left."""
    file, port = folder / f"{name}-{run}.log", free_port()
    file.touch()
    settings = {
        "TALLYGATE_KAFKA_BROKERS": stack.kafka_brokers,
        "TALLYGATE_LEDGER_URL": stack.ledger_url,
        "TALLYGATE_BUS_URL": stack.bus_url,
        "TALLYGATE_DATA_DIR": str(folder / name),
        "TALLYGATE_INSTANCE_ID": name,
        "TALLYGATE_HTTP_PORT": str(port),
    }
    with (folder / f"{name}.out").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.group_member", str(file)],
            env={**os.environ, **settings, **env},
            stdout=output,
            stderr=output,
        )
    try:
        yield Member(process, file, port)
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def log(folder: Path) -> AsyncIterator[tuple[Stack, AIOKafkaProducer]]:
    """A broker with all topics, and a producer on it."""
    async with infrastructure(folder / "stack") as stack:
        await apply_topics(stack.kafka_brokers, _PARTITIONS)
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka_brokers)
        await producer.start()
        try:
            yield stack, producer
        finally:
            await producer.stop()


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
            for partition in range(_PARTITIONS):
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
                await _send(producer, f"n{number}", number % _PARTITIONS)
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
        await _send(producer, "warm", number % _PARTITIONS)
        await asyncio.sleep(0.05)
        if all(each.begun() for each in members):
            break
        assert number < 1_000
    await asyncio.sleep(2.0)


async def _feed(producer: AIOKafkaProducer, seconds: float) -> int:
    """A record every ten milliseconds, one partition after the other; how many."""
    end_s = time.monotonic() + seconds
    for number in itertools.count():
        await _send(producer, f"n{number}", number % _PARTITIONS)
        await asyncio.sleep(0.01)
        if time.monotonic() > end_s:
            return number + 1
    raise AssertionError


def _fed(feed: asyncio.Task[int]) -> int:
    return feed.result()


def _longest_gap(begun: list[tuple[float, str, int]], since: float) -> float:
    """The longest time in which no record of some partition was begun."""
    longest = 0.0
    for partition in range(_PARTITIONS):
        times = sorted(at for at, _, of in begun if of == partition and at > since - 1)
        longest = max(longest, *(b - a for a, b in itertools.pairwise(times)))
    return longest
