"""The one producer of a process: idempotent, acknowledged by all replicas, batched by arrival.

At most one batch per partition is under way; what arrives meanwhile is the next batch. One future per
batch, not per record, because aiokafka's own ``send`` costs several times as much per record.
"""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from schemas import topics
from schemas.events import RecordRef
from schemas.failures import Transient
from schemas.runtime.retry import retry_until
from schemas.runtime.telemetry import Metrics

_BATCH_BYTES = 512 * 1024
_QUEUED_RECORDS_MAX = 50_000
_START_TIMEOUT_S = 30.0

Headers = Sequence[tuple[str, bytes]]


class ProduceFailed(Transient):
    """The broker did not acknowledge; the record may or may not be in the log. Transient."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record on its way to a topic."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True)
class _Queued:
    record: Outgoing
    delivered: asyncio.Future[RecordRef]


@functools.lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition every Kafka client chooses for the key by default (murmur2)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class Producer:
    """Sends records and hands back futures of where they stand.

    ``send`` never blocks; the future fails with ``ProduceFailed`` when the queue is full or the broker
    refuses. aiokafka retries without limit while a broker is away, so callers bound their waits.
    """

    def __init__(self, brokers: str, client_id: str) -> None:
        self._kafka = AIOKafkaProducer(
            bootstrap_servers=brokers,
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            max_batch_size=_BATCH_BYTES,
            max_request_size=topics.MAX_RECORD_BYTES,
            request_timeout_ms=15_000,
            retry_backoff_ms=50,
        )
        self._queues: dict[tuple[str, int], deque[_Queued]] = defaultdict(deque)
        self._senders: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._partitions: dict[str, int] = {}
        self._queued = 0
        self._requests = self._records = self._bytes = 0

    def expose(self, metrics: Metrics) -> None:
        """Export how much was sent, what was sent again included."""
        metrics.total("tallygate_produce_requests_total", lambda: self._requests)
        metrics.total("tallygate_produced_records_total", lambda: self._records)
        metrics.total("tallygate_produced_bytes_total", lambda: self._bytes)

    async def start(self, used_topics: Sequence[str]) -> None:
        """Connect and learn the partition counts; raises ``ProduceFailed`` when a topic is missing."""
        async with asyncio.timeout(_START_TIMEOUT_S):
            await self._kafka.start()
            for topic in used_topics:
                try:
                    self._partitions[topic] = len(await self._kafka.partitions_for(topic))
                except KafkaError as error:
                    raise ProduceFailed(f"topic {topic}: {error!r}") from error

    async def stop(self) -> None:
        """Flush what is queued, for at most ten seconds, and disconnect."""
        pending = list(self._senders.values())
        if pending:
            await asyncio.wait(pending, timeout=10.0)
        for task in self._senders.values():
            task.cancel()
        try:
            await asyncio.wait_for(self._kafka.stop(), timeout=10.0)
        except (TimeoutError, KafkaError):
            return

    @property
    def queued(self) -> int:
        """Records handed in and not yet acknowledged."""
        return self._queued

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        """Queue the record; the future holds where it stands once all replicas have it."""
        delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        if self._queued >= _QUEUED_RECORDS_MAX:
            delivered.set_exception(ProduceFailed("the producer's queue is full"))
            return delivered
        lane = record.topic, partition_of(record.key, self._partitions[record.topic])
        self._queued += 1
        self._queues[lane].append(_Queued(record, delivered))
        if lane not in self._senders:
            self._senders[lane] = asyncio.create_task(self._drain(lane))
        return delivered

    async def ask_broker(self) -> None:
        """Returns once a broker has answered, and raises ``ProduceFailed`` when none does; it may
        take as long as a broker hangs."""
        if not await self._kafka.client.force_metadata_update():
            raise ProduceFailed("no broker answers")

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        """Send all of them and return once the broker has every one.

        Those that fail are sent again until the monotonic ``deadline_s``, then ``ProduceFailed``.
        """
        left = list(records)

        async def send_left() -> None:
            results = await asyncio.gather(*map(self.send, left), return_exceptions=True)
            failed = [isinstance(result, ProduceFailed) for result in results]
            left[:] = [record for record, again in zip(left, failed, strict=True) if again]
            if left:
                raise ProduceFailed(f"{len(left)} records, such as one to {left[0].topic}")

        await retry_until(send_left, ProduceFailed, deadline_s)

    async def _drain(self, lane: tuple[str, int]) -> None:
        """Send batch after batch of one partition until its queue is empty."""
        queue = self._queues[lane]
        try:
            while queue:
                batch = self._take_batch(queue)
                self._queued -= len(batch)
                await self._send_batch(lane, batch)
        finally:
            del self._senders[lane]

    def _take_batch(self, queue: deque[_Queued]) -> list[_Queued]:
        """The next records, up to a batch's size; at least one."""
        taken = [queue.popleft()]
        size = len(taken[0].record.value or b"")
        while queue and size + len(queue[0].record.value or b"") < _BATCH_BYTES // 2:
            taken.append(queue.popleft())
            size += len(taken[-1].record.value or b"") + 256
        return taken

    async def _send_batch(self, lane: tuple[str, int], batch: list[_Queued]) -> None:
        topic, partition = lane
        builder = self._kafka.create_batch()
        fitting = 0
        for queued in batch:
            record = queued.record
            added = builder.append(
                timestamp=None, key=record.key, value=record.value, headers=list(record.headers)
            )
            if added is None:
                break
            fitting += 1
        for queued in reversed(batch[fitting:]):
            self._queues[lane].appendleft(queued)
            self._queued += 1
        builder.close()
        self._requests += 1
        self._records += fitting
        self._bytes += builder.size()
        try:
            acknowledged = await self._kafka.send_batch(builder, topic, partition=partition)
            metadata = await acknowledged
        except (KafkaError, asyncio.CancelledError) as error:
            failure = ProduceFailed(f"{topic}-{partition}: {error!r}")
            for queued in batch[:fitting]:
                _resolve(queued.delivered, failure)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        for index, queued in enumerate(batch[:fitting]):
            _resolve(
                queued.delivered,
                RecordRef(topic=topic, partition=partition, offset=metadata.offset + index),
            )


def _resolve(delivered: asyncio.Future[RecordRef], result: RecordRef | ProduceFailed) -> None:
    """Settle a future that its caller may have given up on."""
    if delivered.done():
        return
    if isinstance(result, RecordRef):
        delivered.set_result(result)
    else:
        delivered.set_exception(result)
