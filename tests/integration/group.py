"""Members of a consumer group, each a process of its own, on a broker with all topics."""

from __future__ import annotations

import asyncio
import json
import os
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

from aiokafka import AIOKafkaProducer

from deploy.embedded.stack import Stack
from schemas.runtime.kafka.topic_admin import apply_topics
from tests.support.harness.infrastructure import infrastructure
from tests.support.harness.ledger_server import free_port

PARTITIONS = 4


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
        await apply_topics(stack.kafka_brokers, PARTITIONS)
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka_brokers)
        await producer.start()
        try:
            yield stack, producer
        finally:
            await producer.stop()
