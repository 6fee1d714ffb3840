"""The leader of a partition dies, and another hangs, on three brokers: our producer goes on, each record is there once.

`python -m tests.chaos.leader_change`: brokers of the embedded Kafka, a topic with three copies of which two must
have a record, a steady stream through `Producer`. One broker is killed and started again, another stands still.
Exit code 1 when a record is missing, doubled or out of order, or when nothing was acknowledged for too long.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from deploy.embedded.kafka_jars import ensure_jars
from deploy.embedded.state import UserFolders
from schemas.events import RecordRef
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import Producer
from tests.chaos.brokers import Broker, running_brokers
from tests.chaos.copies import read_all

TOPIC: Final = "led"
PARTITIONS: Final = 4
RATE_PER_S: Final = 100
STEADY_S: Final = 5.0
HANG_S: Final = 20.0
SILENT_MAX_S: Final = 20.0
"""A partition has a new leader, and our producer knows it, within this."""
_DELIVERED_WITHIN_S: Final = 60.0
_TOPIC_WITHIN_S: Final = 60.0


@dataclass
class Stream:
    """Records as they were sent and acknowledged, by partition."""

    producer: Producer
    sent: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    acknowledged_s: list[float] = field(default_factory=list)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Send until cancelled."""
        number = 0
        while True:
            key, value = b"key-%d" % (number % 32), b"%d" % number
            self.sent[self.producer.partition_for(TOPIC, key)].append(value)
            task = asyncio.create_task(
                self._deliver(self.producer.send(Outgoing(TOPIC, key, value)))
            )
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1
            await asyncio.sleep(1 / RATE_PER_S)

    async def _deliver(self, acknowledged: asyncio.Future[RecordRef]) -> None:
        async with asyncio.timeout(_DELIVERED_WITHIN_S):
            await acknowledged
        self.acknowledged_s.append(time.monotonic())

    async def rest(self) -> None:
        """Until all that was sent is acknowledged; raises what its sending raised."""
        await asyncio.gather(*self._under_way)

    def longest_silence_s(self, from_s: float) -> float:
        """The longest time without any acknowledgement since then."""
        later = [at_s for at_s in self.acknowledged_s if at_s >= from_s]
        return max((b - a for a, b in pairwise([from_s, *later])), default=SILENT_MAX_S)


async def change_leaders(folder: Path) -> list[str]:
    """The run; what was wrong, and a line per change."""
    jars = await ensure_jars(UserFolders().cache)
    wrong: list[str] = []
    async with running_brokers(folder, jars) as brokers, _producer(brokers) as stream:
        sending = asyncio.create_task(stream.run())
        await asyncio.sleep(STEADY_S)
        leader = brokers[await _leader_of(brokers, 0)]
        began_s = time.monotonic()
        leader.kill()
        await asyncio.sleep(HANG_S)
        leader.start()
        wrong += _judged("killed", leader, stream.longest_silence_s(began_s))
        await asyncio.sleep(HANG_S)
        leader = brokers[await _leader_of(brokers, 1)]
        began_s = time.monotonic()
        leader.signal(signal.SIGSTOP)
        await asyncio.sleep(HANG_S)
        leader.signal(signal.SIGCONT)
        wrong += _judged("hung", leader, stream.longest_silence_s(began_s))
        await asyncio.sleep(STEADY_S)
        sending.cancel()
        await stream.rest()
        wrong += await asyncio.to_thread(_compared, brokers, stream)
    return wrong


def _judged(what: str, leader: Broker, silence_s: float) -> list[str]:
    print(f"broker {leader.number} {what}: longest silence {silence_s:.1f} s", flush=True)
    return [f"{what}: nothing for {silence_s:.1f} s"] if silence_s > SILENT_MAX_S else []


def _compared(brokers: dict[int, Broker], stream: Stream) -> list[str]:
    """Where the log is not what was sent: each record once, in the order of its partition."""
    found: dict[int, list[bytes]] = defaultdict(list)
    for message in read_all(_addresses(brokers), TOPIC):
        found[message.partition() or 0].append(message.value() or b"")
    print(f"{sum(map(len, stream.sent.values()))} records sent and acknowledged", flush=True)
    return [
        f"partition {number}: {len(sent)} sent, {len(found[number])} found,"
        f" {len(set(sent) - set(found[number]))} missing"
        for number, sent in stream.sent.items()
        if found[number] != sent
    ]


@asynccontextmanager
async def _producer(brokers: dict[int, Broker]) -> AsyncIterator[Stream]:
    await _make_topic(_addresses(brokers))
    producer = Producer(_addresses(brokers), "leader-change")
    await producer.start([TOPIC])
    try:
        yield Stream(producer)
    finally:
        await producer.stop()


async def _make_topic(addresses: str) -> None:
    """Three copies, of which two must have what is acknowledged; brokers need a moment to be so many."""
    end_s = time.monotonic() + _TOPIC_WITHIN_S
    copied = NewTopic(TOPIC, PARTITIONS, 3, topic_configs={"min.insync.replicas": "2"})
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=addresses)
        try:
            await admin.start()
            made: Any = await admin.create_topics([copied])
            if made.topic_errors[0][1] in (0, 36):  # made now, or by the last try
                return
        except KafkaError:
            if time.monotonic() > end_s:
                raise
        finally:
            await admin.close()
        await asyncio.sleep(1.0)


async def _leader_of(brokers: dict[int, Broker], partition: int) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=_addresses(brokers))
    await admin.start()
    try:
        (topic,) = await admin.describe_topics([TOPIC])
        return next(int(p["leader"]) for p in topic["partitions"] if p["partition"] == partition)
    finally:
        await admin.close()


def _addresses(brokers: dict[int, Broker]) -> str:
    return ",".join(f"127.0.0.1:{broker.port}" for broker in brokers.values())


def main() -> int:
    """Run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps logs and data there")
    folder = options.parse_args().folder or Path(tempfile.mkdtemp(prefix="tallygate-leaders-"))
    print(f"logs under {folder}, pid {os.getpid()}", flush=True)
    wrong = asyncio.run(change_leaders(folder))
    for text in wrong:
        print(text)
    print("leader change:", "FINDINGS" if wrong else "CLEAN")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
