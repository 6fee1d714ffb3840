"""The one producer of a process: idempotent, acknowledged by all replicas, batched by arrival.

At most one batch per partition is under way; what arrives meanwhile is the next batch. One future per
batch, not per record, because aiokafka's own ``send`` costs several times as much per record. A record
that the broker refuses fails alone, whatever it travelled with.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError, ProducerClosed

from schemas.clock_estimate import Reading
from schemas.events import RecordRef
from schemas.failures import Poison, Transient
from schemas.log_events import LogEvent
from schemas.outgoing import Outgoing
from schemas.partitions import partition_of, partition_of_org
from schemas.runtime.kafka.produce_connection import (
    BATCH_BYTES,
    Connect,
    ProducerConnection,
    kafka_producer,
)
from schemas.runtime.kafka.produce_faults import RECORD_BYTES_MAX, Fault, fault_of, size_bytes
from schemas.runtime.kafka.spans import sending
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.retry import retry_until
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Tracer
from schemas.topics import KEYED_BY_ORG

_LOG = EventLog(__name__)

_QUEUED_RECORDS_MAX = 50_000
_QUEUED_BYTES_MAX = 128 * 1024 * 1024
_START_TIMEOUT_S = 30.0
_STOP_WITHIN_S = 10.0
_TOPIC_REFUSED_S = 5.0
"""How long a topic that takes nothing is not asked again: each refusal costs the producer its sequence."""

_LOG_APPEND_TIME = 1

OnAppended = Callable[[Reading], None]
Send = Callable[[Outgoing], "asyncio.Future[RecordRef]"]
TopicPartition = tuple[str, int]
"""A partition of a topic."""


class ProduceFailed(Transient):
    """The broker did not acknowledge; the record may or may not be in the log. Transient."""


class ProduceRefused(Poison):
    """The record can never be in the log: too large, invalid, or its topic is not ours to write."""


@dataclass(slots=True)
class _Queued:
    record: Outgoing
    size_bytes: int
    delivered: asyncio.Future[RecordRef]
    queued_s: float


class Producer:
    """Sends records and hands back futures of where they stand.

    ``send`` never blocks. The future fails with ``ProduceFailed`` when the queue is full or the broker does
    not acknowledge, and with ``ProduceRefused`` when it never will. aiokafka retries without limit while a
    broker is away, so callers bound their waits.
    """

    def __init__(
        self,
        brokers: str,
        client_id: str,
        *,
        connect: Connect | None = None,
        on_appended: OnAppended | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """``connect`` makes the inner producer, for tests; ``on_appended`` is told each append time."""
        self._on_appended = on_appended
        self._tracer = tracer
        self._connection = ProducerConnection(connect or kafka_producer(brokers, client_id))
        self._queues: dict[TopicPartition, deque[_Queued]] = defaultdict(deque)
        self._senders: dict[TopicPartition, asyncio.Task[None]] = {}
        self._partitions: dict[str, int] = {}
        self._refused_topics: dict[str, tuple[float, str]] = {}
        self._queued = self._queued_bytes = 0
        self._oldest_s: dict[TopicPartition, float] = {}
        """When the first record of the batch under way was queued (monotonic)."""
        self._requests = self._records = self._bytes = 0

    def expose(self, metrics: Metrics) -> None:
        """Export how much was sent, what was sent again included."""
        metrics.total("tallygate_produce_requests_total", lambda: self._requests)
        metrics.total("tallygate_produced_records_total", lambda: self._records)
        metrics.total("tallygate_produced_bytes_total", lambda: self._bytes)
        metrics.total("tallygate_producer_renewals_total", lambda: self._connection.renewals)

    async def start(self, used_topics: Sequence[str]) -> None:
        """Connect and learn the partition counts; raises ``ProduceFailed`` when a topic is missing."""
        async with asyncio.timeout(_START_TIMEOUT_S):
            await self._connection.start()
            kafka = await self._connection.current()
            for topic in used_topics:
                try:
                    self._partitions[topic] = len(await kafka.partitions_for(topic))
                except KafkaError as error:
                    raise ProduceFailed(f"topic {topic}: {error!r}") from error

    async def stop(self) -> None:
        """Flush what is queued, for at most ten seconds, and disconnect; what is left then fails."""
        pending = list(self._senders.values())
        if pending:
            await asyncio.wait(pending, timeout=_STOP_WITHIN_S)
        for task in list(self._senders.values()):
            task.cancel()
        await self._connection.stop()

    @property
    def queued(self) -> int:
        """Records handed in and not yet acknowledged."""
        return self._queued

    @property
    def unacknowledged_s(self) -> float:
        """How old the oldest record is that no broker has acknowledged, whether its caller still waits for
        it or not; 0 without one."""
        now_s = time.monotonic()
        return now_s - min(self._oldest_s.values(), default=now_s)

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        """Queue the record; the future holds where it stands once all replicas have it."""
        delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        if self._tracer is not None:
            record = sending(self._tracer, record, delivered)
        size = size_bytes(record.key, record.value, record.headers)
        if size > RECORD_BYTES_MAX:
            delivered.set_exception(ProduceRefused(f"{record.topic}: a record of {size} bytes"))
            return delivered
        if self._queued >= _QUEUED_RECORDS_MAX or self._queued_bytes + size > _QUEUED_BYTES_MAX:
            delivered.set_exception(ProduceFailed("the producer's queue is full"))
            return delivered
        partition = record.partition
        if partition is None:
            partition = self.partition_for(record.topic, record.key)
        place = record.topic, partition
        self._queued += 1
        self._queued_bytes += size
        self._queues[place].append(_Queued(record, size, delivered, time.monotonic()))
        if place not in self._senders:
            self._senders[place] = asyncio.create_task(self._drain(place))
        return delivered

    def partition_for(self, topic: str, key: bytes) -> int:
        """The partition of the topic that records with this key go to."""
        of = partition_of_org if topic in KEYED_BY_ORG else partition_of
        return of(key, self._partitions[topic])

    def partitions(self, topic: str) -> int:
        """How many partitions a topic of ``start`` has. Raises ``ProduceFailed`` before that is known."""
        if topic not in self._partitions:
            raise ProduceFailed(f"topic {topic}: no broker has answered yet")
        return self._partitions[topic]

    async def ask_broker(self) -> None:
        """Returns once a broker has answered, and raises ``ProduceFailed`` when none does; it may
        take as long as a broker hangs."""
        kafka = await self._connection.current()
        if not await kafka.client.force_metadata_update():
            raise ProduceFailed("no broker answers")

    async def deliver(
        self, records: Sequence[Outgoing], deadline_s: float, send: Send | None = None
    ) -> None:
        """Send all of them and return once the broker has every one.

        Those that fail are sent again until the monotonic ``deadline_s``, then ``ProduceFailed``. One that
        is refused is not sent again: ``ProduceRefused``, once the others are delivered. They go through
        ``send`` where that is given.
        """
        left, through = list(records), send or self.send
        refused: list[ProduceRefused] = []

        async def send_left() -> None:
            results = await asyncio.gather(*map(through, left), return_exceptions=True)
            refused.extend(result for result in results if isinstance(result, ProduceRefused))
            left[:] = [
                record
                for record, result in zip(left, results, strict=True)
                if not isinstance(result, RecordRef | ProduceRefused)
            ]
            if left:
                raise ProduceFailed(f"{len(left)} records, such as one to {left[0].topic}")

        await retry_until(send_left, ProduceFailed, deadline_s)
        if refused:
            raise refused[0]

    async def _drain(self, place: TopicPartition) -> None:
        """Send batch after batch of one partition until its queue is empty, whatever becomes of each."""
        queue = self._queues[place]
        batch: list[_Queued] = []
        try:
            while queue:
                batch = _take_batch(queue)
                self._oldest_s[place] = batch[0].queued_s
                await self._send_total(place, batch)
        except asyncio.CancelledError:
            self._settle([*batch, *queue], ProduceFailed("the producer stops"))
            queue.clear()
            raise
        finally:
            del self._senders[place]
            self._oldest_s.pop(place, None)

    async def _send_total(self, place: TopicPartition, batch: list[_Queued]) -> None:
        """Send the batch; every one of its futures is settled afterwards."""
        try:
            await self._send_batch(place, batch)
        except Exception as error:  # noqa: BLE001  # total: a defect must not lose the partition or its futures
            topic, partition = place
            _LOG.event(
                LogEvent.PRODUCE_DEFECT,
                topic=topic,
                partition=partition,
                count=len(batch),
                defect=error,
            )
            self._settle(batch, ProduceFailed(f"{place[0]}-{place[1]}: {error!r}"))

    async def _send_batch(self, place: TopicPartition, batch: list[_Queued]) -> None:
        """Send the batch, in as many pieces as it takes, so that a record at fault fails alone."""
        topic, partition = place
        if reason := self._refusal(topic):
            self._settle(batch, ProduceRefused(reason))
            return
        kafka = await self._connection.current()
        builder, packed, rest = self._packed(kafka, place, batch)
        if packed:
            self._requests += 1
            self._records += len(packed)
            self._bytes += builder.size()
            sent_s = time.monotonic()
            try:
                metadata = await self._connection.send(kafka, builder, topic, partition)
            except ProducerClosed as error:
                if kafka is await self._connection.current():
                    raise
                # It was replaced before it took the batch.
                _LOG.event(LogEvent.PRODUCED_AGAIN, topic=topic, error=error)
                await self._send_batch(place, packed)
            except KafkaError as error:
                await self._refused(place, packed, error)
            else:
                self._learn(sent_s, metadata)
                for index, queued in enumerate(packed):
                    at = RecordRef(topic=topic, partition=partition, offset=metadata.offset + index)
                    self._settle([queued], at)
        if rest:
            await self._send_batch(place, rest)

    def _learn(self, sent_s: float, metadata: Any) -> None:
        """Tell when the broker says it appended the batch, where the broker does say."""
        if self._on_appended is not None and metadata.timestamp_type == _LOG_APPEND_TIME:
            # The stamp is cut to its millisecond.
            at_ms = metadata.timestamp + 0.5
            self._on_appended(Reading(sent_s, time.monotonic(), at_ms))

    async def _refused(
        self, place: TopicPartition, batch: list[_Queued], error: KafkaError
    ) -> None:
        """End the record at fault, send its neighbours; or let callers decide on another try."""
        topic, partition = place
        text = f"{topic}-{partition}: {error!r}"
        match fault_of(error):
            case Fault.RECORD if len(batch) > 1:
                middle = len(batch) // 2
                await self._send_batch(place, batch[:middle])
                await self._send_batch(place, batch[middle:])
            case Fault.RECORD:
                self._settle(batch, ProduceRefused(text))
            case Fault.TOPIC:
                self._refused_topics[topic] = time.monotonic() + _TOPIC_REFUSED_S, text
                self._settle(batch, ProduceRefused(text))
            case Fault.AWAY:
                self._settle(batch, ProduceFailed(text))

    def _refusal(self, topic: str) -> str | None:
        """Why the topic takes nothing for now."""
        until_s, reason = self._refused_topics.get(topic, (0.0, ""))
        if until_s > time.monotonic():
            return reason
        self._refused_topics.pop(topic, None)
        return None

    def _packed(
        self, kafka: Any, place: TopicPartition, batch: list[_Queued]
    ) -> tuple[Any, list[_Queued], list[_Queued]]:
        """A batch of the first records, those, and the rest that did not fit."""
        builder = kafka.create_batch()
        packed: list[_Queued] = []
        for index, queued in enumerate(batch):
            record = queued.record
            try:
                added = builder.append(
                    timestamp=None, key=record.key, value=record.value, headers=list(record.headers)
                )
            except (TypeError, ValueError, UnicodeError) as error:
                self._settle([queued], ProduceRefused(f"{place[0]}: no record: {error!r}"))
                continue
            if added is None:
                return _closed(builder), packed, batch[index:]
            packed.append(queued)
        return _closed(builder), packed, []

    def _settle(self, batch: Sequence[_Queued], result: RecordRef | Exception) -> None:
        """Settle futures, which their callers may have given up on; those that are settled stay."""
        for queued in batch:
            if queued.size_bytes:
                self._queued -= 1
                self._queued_bytes -= queued.size_bytes
                queued.size_bytes = 0
            if queued.delivered.done():
                continue
            if isinstance(result, RecordRef):
                queued.delivered.set_result(result)
            else:
                queued.delivered.set_exception(result)


def _closed(builder: Any) -> Any:
    builder.close()
    return builder


def _take_batch(queue: deque[_Queued]) -> list[_Queued]:
    """The next records, up to a batch's size; at least one."""
    taken = [queue.popleft()]
    size = taken[0].size_bytes
    while queue and size + queue[0].size_bytes < BATCH_BYTES // 2:
        taken.append(queue.popleft())
        size += taken[-1].size_bytes
    return taken
