"""Stands for aiokafka's producer: it numbers batches as an idempotent one does, and refuses as told."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerClosed
from aiokafka.producer.message_accumulator import BatchBuilder

Judge = Callable[[list[bytes]], KafkaError | None]
"""What the broker says of a batch with these values."""


class _Builder:
    """Remembers the values beside what the real one packs."""

    def __init__(self) -> None:
        self.real = BatchBuilder(512 * 1024, 0)
        self.values: list[bytes] = []

    def append(self, **record: Any) -> Any:
        added = self.real.append(**record)
        if added is not None:
            self.values.append(record["value"])
        return added

    def size(self) -> int:
        return int(self.real.size())

    def close(self) -> None:
        self.real.close()


@dataclass
class Broker:
    """Every partition's log, and the producers that were made for it."""

    judge: Judge = lambda values: None
    log: dict[tuple[str, int], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    producers: list[Inner] = field(default_factory=list)
    batches: list[list[bytes]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """Batches of a partition wait for it, where the test asks for that."""
    gated: int = -1
    starts_failing: int = 0
    now_ms: int = 0

    def connect(self) -> Inner:
        inner = Inner(self)
        self.producers.append(inner)
        return inner


class Inner:
    """One producer: a batch that is refused leaves a hole in the sequence of its partition."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._holes: set[tuple[str, int]] = set()
        self._closed = False
        self._under_way: set[asyncio.Future[Any]] = set()
        self._died = asyncio.Event()
        self._sender = SimpleNamespace(sender_task=SimpleNamespace(done=self._died.is_set))

    def die(self) -> None:
        """Its sender ends, as aiokafka's does when it is fenced."""
        self._died.set()

    async def start(self) -> None:
        if self._broker.starts_failing > 0 and len(self._broker.producers) > 1:
            self._broker.starts_failing -= 1
            raise KafkaError("no broker")

    async def stop(self) -> None:
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1}

    def create_batch(self) -> _Builder:
        return _Builder()

    async def send_batch(
        self, batch: _Builder, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        if self._closed:
            raise ProducerClosed
        if self._died.is_set():
            raise KafkaError("Unexpected error during batch delivery")
        answer = asyncio.ensure_future(self._answer(batch.values, (topic, partition)))
        self._under_way.add(answer)
        answer.add_done_callback(self._under_way.discard)
        return asyncio.shield(answer)

    async def _answer(self, values: list[bytes], lane: tuple[str, int]) -> Any:
        if self._broker.gate is not None and lane[1] == self._broker.gated:
            await self._broker.gate.wait()
        await asyncio.sleep(0)
        self._broker.batches.append(values)
        if lane in self._holes:
            raise OutOfOrderSequenceNumber
        if error := self._broker.judge(values):
            self._holes.add(lane)
            raise error
        log = self._broker.log[lane]
        log.extend(values)
        return SimpleNamespace(
            offset=len(log) - len(values), timestamp=self._broker.now_ms, timestamp_type=1
        )
