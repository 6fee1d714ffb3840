"""Bodies of 4 MiB: they reach the backend whole, cross the log once, and are taken in turns."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import psutil
import pytest
import redis
from confluent_kafka import Consumer, TopicPartition

from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack, lasting

pytestmark = pytest.mark.timeout(180, func_only=True)
MIB = 1024 * 1024
AT_ONCE = 120
RSS_BYTES_MAX = 400 * MIB


def _body(size: int) -> bytes:
    fields = {"model": MODEL, "messages": [{"role": "user", "content": ""}], "max_tokens": 4}
    empty = json.dumps(fields)
    text = "word " * (size // 5)
    filled = empty.replace('"content": ""', f'"content": "{text[: size - len(empty) - 2]}"')
    return filled.encode()


@contextmanager
def _bus_wiped_all_the_time(stack: RunningStack) -> Iterator[None]:
    stop = threading.Event()

    def wipe() -> None:
        with redis.Redis.from_url(stack.bus_url) as bus:
            while not stop.wait(0.003):
                bus.flushall()

    thread = threading.Thread(target=wipe)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def _chat(session: aiohttp.ClientSession, stack: RunningStack, key: str, body: bytes) -> int:
    """Posts until it is not told to come again; the status, and the times it was told are in
    ``retries``."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    url = f"{stack.api_url}/chat/completions"
    end_s = time.monotonic() + 140
    while True:
        async with session.post(url, data=io.BytesIO(body), headers=headers) as answer:
            said = await answer.read()
            if answer.status not in (429, 503) or time.monotonic() > end_s:
                if answer.status != 200:
                    print(answer.status, said[:300])
                return answer.status
            assert "retry-after-ms" in answer.headers
            wait_s = int(answer.headers["retry-after-ms"]) / 1000
        await asyncio.sleep(wait_s)


def _topic_bytes(stack: RunningStack, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "e2e-large"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p))[1] for p in partitions}
    finally:
        consumer.close()


def _values_since(stack: RunningStack, topic: str, start: dict[int, int]) -> list[int]:
    """Sizes of the records that were appended since."""
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "e2e-large"})
    try:
        consumer.assign([TopicPartition(topic, p, offset) for p, offset in start.items()])
        sizes: list[int] = []
        while batch := consumer.consume(100, timeout=2.0):
            sizes += [len(message.value() or b"") for message in batch if not message.error()]
        return sizes
    finally:
        consumer.close()


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("large-bodies")


@pytest.mark.parametrize("is_wiped", [False, True])
async def test_a_body_of_4_mib_is_answered_and_crosses_the_log_once(
    stack: RunningStack, grant: Grant, oracle: Oracle, is_wiped: bool
) -> None:
    """The dispatcher takes it from the bus, or where the bus has lost it, from the log."""
    body = _body(4 * MIB)
    topics = {
        name: _topic_bytes(stack, name)
        for name in ("inference.requests.v1", "inference.dispatch.v1")
    }
    async with aiohttp.ClientSession() as session:
        if is_wiped:
            with _bus_wiped_all_the_time(stack):
                statuses = [await _chat(session, stack, grant.key, body) for _ in range(3)]
        else:
            statuses = [await _chat(session, stack, grant.key, body) for _ in range(3)]
    assert statuses == [200] * 3
    requests = _values_since(stack, "inference.requests.v1", topics["inference.requests.v1"])
    dispatches = _values_since(stack, "inference.dispatch.v1", topics["inference.dispatch.v1"])
    assert [size > 4 * MIB - 1_000 for size in requests] == [True] * 3
    assert len(dispatches) == 3
    assert max(dispatches) < 10_000


async def test_120_bodies_of_4_mib_at_once_all_end_in_200_and_memory_stays_bounded(
    stack: RunningStack, make_key: MakeKey
) -> None:
    """Clients come again as they are told. Four organizations; peaks of every process are printed."""
    keys = [make_key(f"large-{number}").key for number in range(4)]
    body = _body(4 * MIB)
    peaks: dict[str, int] = {}
    stop = threading.Event()
    processes = [psutil.Process(pid) for pid in lasting(stack.process.pid)]

    def watch() -> None:
        while not stop.wait(0.05):
            for process in processes:
                try:
                    line, rss = process.cmdline(), process.memory_info().rss
                except psutil.Error:
                    continue
                name = " ".join(line)[-60:]
                peaks[name] = max(peaks.get(name, 0), rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun_s = time.monotonic()
    try:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=150)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            statuses = await asyncio.gather(
                *(_chat(session, stack, keys[n % 4], body) for n in range(AT_ONCE))
            )
    finally:
        stop.set()
        watcher.join()
    print(f"all answered in {time.monotonic() - begun_s:.1f} s")
    for name, rss in sorted(peaks.items(), key=lambda each: -each[1]):
        print(f"{rss / MIB:8.0f} MiB {name}")
    assert statuses == [200] * AT_ONCE
    ours = {name: rss for name, rss in peaks.items() if "java" not in name and "kafka" not in name}
    assert max(ours.values()) < RSS_BYTES_MAX
