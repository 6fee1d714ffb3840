"""The producer's connection to Kafka, and how it is made new once its sequence is lost.

An idempotent producer numbers its batches, and one that the broker refuses leaves a hole: every later
batch of that partition would be refused for ever. A new producer begins a new sequence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas import topics
from schemas.log_events import LogEvent
from schemas.runtime.kafka.access import client_options
from schemas.runtime.process.event_log import EventLog

__all__ = ["Connect", "ProducerConnection", "kafka_producer"]

_LOG = EventLog(__name__)

BATCH_BYTES = 512 * 1024
_RETIRE_WITHIN_S = 30.0
_START_WITHIN_S = 30.0
_PAUSE_FIRST_S = 0.05
_PAUSE_MAX_S = 2.0

Connect = Callable[[], Any]
"""Makes an ``AIOKafkaProducer``; it is not started yet."""


def kafka_producer(brokers: str, client_id: str) -> Connect:
    """How every producer of a process is made: idempotent, acknowledged by all replicas."""

    def connect() -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **client_options(brokers),
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=topics.MAX_RECORD_BYTES,
            request_timeout_ms=15_000,
            retry_backoff_ms=50,
        )

    return connect


class ProducerConnection:
    """Holds the one producer in use; replaces it once for all who find it broken."""

    def __init__(self, connect: Connect) -> None:
        self.renewals = 0
        self._connect = connect
        self._kafka = connect()
        self._renewal: asyncio.Task[None] | None = None
        self._under_way: dict[asyncio.Future[Any], Any] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect; raises what aiokafka raises."""
        await self._kafka.start()

    async def stop(self) -> None:
        """Disconnect, for at most ten seconds."""
        if self._renewal is not None:
            self._renewal.cancel()
        for task in self._retiring:
            task.cancel()
        await self._retire(self._kafka, 10.0)

    async def current(self) -> Any:
        """The producer in use; waits while it is being replaced."""
        while self._renewal is not None:
            await asyncio.shield(self._renewal)
        return self._kafka

    async def send(self, kafka: Any, batch: Any, topic: str, partition: int) -> Any:
        """Send a batch of ``kafka``'s; what the broker says of it.

        Raises ``KafkaError``. Whenever a batch that was numbered is refused, the producer is made new;
        ``KafkaError`` also when the producer was given up while the batch was under way.
        """
        acknowledged: asyncio.Future[Any] | None = None
        try:
            acknowledged = asyncio.ensure_future(
                await kafka.send_batch(batch, topic, partition=partition)
            )
            self._under_way[acknowledged] = kafka
            return await acknowledged
        except KafkaError:
            if acknowledged is not None or kafka._sender.sender_task.done():  # noqa: SLF001
                self._renew(kafka)
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if acknowledged is None or not acknowledged.cancelled() or (task and task.cancelling()):
                raise
            raise KafkaError("the producer was given up") from None
        finally:
            if acknowledged is not None:
                self._under_way.pop(acknowledged, None)

    def _renew(self, broken: Any) -> None:
        """Replace the producer, unless somebody does already."""
        if broken is self._kafka and self._renewal is None:
            self._renewal = asyncio.create_task(self._replace(broken))

    async def _replace(self, broken: Any) -> None:
        try:
            self._kafka = await self._started()
            self.renewals += 1
        finally:
            self._renewal = None
        retiring = asyncio.create_task(self._retire(broken, _RETIRE_WITHIN_S))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _started(self) -> Any:
        """A producer that is connected, however long brokers are away."""
        pause_s = _PAUSE_FIRST_S
        while True:
            kafka = self._connect()
            try:
                async with asyncio.timeout(_START_WITHIN_S):
                    await kafka.start()
            except (KafkaError, TimeoutError, OSError) as error:
                _LOG.event(LogEvent.PRODUCER_WAITS, error=error)
                await self._retire(kafka, 1.0)
            else:
                _LOG.event(LogEvent.PRODUCER_RENEWED)
                return kafka
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    async def _retire(self, kafka: Any, within_s: float) -> None:
        """Let its batches of other partitions end, then give up what is left of them."""
        try:
            async with asyncio.timeout(within_s):
                await kafka.stop()
        except Exception as error:  # noqa: BLE001  # it is given up in any case
            _LOG.event(LogEvent.PRODUCER_NOT_STOPPED, error=error)
        finally:
            for acknowledged, of in list(self._under_way.items()):
                if of is kafka:
                    acknowledged.cancel()
