"""Reads what happened into the outbox, and the outbox and its pauses into deliveries: one consumer of one group.

Invariant: an offset is committed once what its record asks for is durable: the message in the outbox, the delivery made, or
the message in another topic. So a kill repeats and loses nothing. A receiver that is away holds no partition: its messages wait
in topics, of which so many are looked at ahead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata

from dispatcher.webhooks.delivering import Deliveries
from dispatcher.webhooks.fold import FOLDED, message_of, told_organizations
from schemas.codec import MalformedRecord, decode_as
from schemas.events import WebhookMessage
from schemas.failures import Defect
from schemas.log_events import LogEvent
from schemas.outgoing import Outgoing, webhook_record
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.consume.ack_window import AckWindow, Partition
from schemas.runtime.kafka.consume.offsets import decode_mark, encode_mark
from schemas.runtime.kafka.free_consumer import stop_consumer
from schemas.runtime.process.event_log import EventLog
from schemas.topics import WEBHOOK_GROUP, WEBHOOK_PAUSES_MS, WEBHOOKS
from schemas.webhooks import Webhooks

__all__ = ["WebhookReader"]

_LOG = EventLog(__name__)

_READ: Final = (*FOLDED, WEBHOOKS, *WEBHOOK_PAUSES_MS)
_AHEAD_MAX: Final = 256
"""Messages of a partition that are looked at."""
_RECORDS_MAX: Final = 1_024
_WAIT_MS: Final = 500
_FETCH_WAIT_MS: Final = 500
_FETCH_BYTES_MIN: Final = 64 * 1024
"""Nobody waits for a webhook by the millisecond: a broker answers when there is that much, or after the half second."""
_LOOK_AGAIN_S: Final = 0.2
_COMMIT_EVERY_S: Final = 1.0
_PRODUCE_WITHIN_S: Final = 30.0
_STOP_WITHIN_S: Final = 2.0
_FOR_EVER_MS: Final = 2**31 - 1
_LATELY_MS: Final = 60_000
"""Whoever is told for the first time is told of what happened since then: a configuration takes moments to be here."""


class OffsetGap(Defect):
    """Records were skipped; only reading again from the committed offset finds them."""


@dataclass(slots=True)
class WebhookReader(ConsumerRebalanceListener):  # type: ignore[misc]  # it has no types
    """The reader of one dispatcher; several share the partitions."""

    brokers: str
    deliveries: Deliveries
    is_config_read: Callable[[], bool]
    _generation: int = 0
    _folded: dict[TopicPartition, int] = field(default_factory=dict)
    """How far topics that messages are made of were read, where that is not committed."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _paused: set[TopicPartition] = field(default_factory=set)
    _committed_s: float = 0.0
    _told: tuple[int, Mapping[bytes, Webhooks]] = (-2, MappingProxyType({}))
    """Who is told, as the configuration stands at an offset."""
    _failure: BaseException | None = None
    _is_stopping: bool = False
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _window: AckWindow = field(init=False)
    _consumer: AIOKafkaConsumer | None = None

    def __post_init__(self) -> None:
        """An empty window."""
        self._window = AckWindow(self, _skipped, on_late_start=lambda *_: None)

    def generation(self) -> int:
        """Grows with every assignment of partitions to this process."""
        return self._generation

    async def run(self) -> None:
        """Read and deliver, for ever, once anybody is told: before, the log is not read twice for nobody. Raises
        ``KafkaError`` or ``ProduceFailed`` when the log is away: it is begun again then."""
        # An old copy of the configuration may not know who is told.
        while not (self.is_config_read() and self._told_now()):  # noqa: ASYNC110  # once
            await asyncio.sleep(_LOOK_AGAIN_S)
        consumer = AIOKafkaConsumer(
            **client_options(self.brokers),
            group_id=WEBHOOK_GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            fetch_min_bytes=_FETCH_BYTES_MIN,
            max_poll_interval_ms=_FOR_EVER_MS,
        )
        self._consumer, self._failure = consumer, None
        self._forget()
        consumer.subscribe(_READ, listener=self)
        try:
            await consumer.start()
            while not self._is_stopping:
                await self._turn(consumer)
            await self._end_tasks()
            await self._commit(consumer)
        finally:
            await self._end_tasks()
            await stop_consumer(consumer)
        self._stopped.set()
        await asyncio.Event().wait()  # Nothing begins anew.

    async def stop(self) -> None:
        """Deliver nothing more, and leave the group, so that others do at once; within a bound."""
        self._is_stopping = True
        if self._consumer is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self._stopped.wait()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """What is under way ends here: whoever gets the partition delivers it."""
        await self._end_tasks()
        if revoked and self._consumer is not None:
            await self._commit(self._consumer)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Begin where the group is: what was finished beyond a message that took long is not done again."""
        self._forget()
        if not assigned or self._consumer is None:
            return
        coordinator = self._consumer._coordinator  # noqa: SLF001  # aiokafka tells the metadata nowhere else
        committed = await coordinator.fetch_committed_offsets(list(assigned))
        for place, at in committed.items():
            mark = decode_mark(at.offset, at.metadata or "")
            if mark is not None and place.topic not in FOLDED:
                self._window.remember((place.topic, place.partition), mark)
        begun = [place for place in assigned if place.topic in FOLDED and place not in committed]
        if begun:
            await self._begin_lately(self._consumer, begun)

    async def _begin_lately(
        self, consumer: AIOKafkaConsumer, places: Collection[TopicPartition]
    ) -> None:
        """Begin what the group has never read at about now, and have that committed: days of others' records are not
        read for who is told for the first time, nor is anything told that ended before."""
        since_ms = self.deliveries.clock.now_ms() - _LATELY_MS
        found = await consumer.offsets_for_times(dict.fromkeys(places, since_ms))
        ends = await consumer.end_offsets(places)
        for place in places:
            at = ends[place] if found[place] is None else found[place].offset
            consumer.seek(place, at)
            self._folded[place] = at

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=_RECORDS_MAX)
        generation = self._generation
        for partition, records in found.items():
            if generation != self._generation:
                break  # They are read again by whoever has them now.
            if partition.topic in FOLDED:
                await self._fold(partition, records, generation)
            else:
                self._begin(records, generation)
        self._hold_back(consumer)
        if time.monotonic() - self._committed_s >= _COMMIT_EVERY_S:
            await self._commit(consumer)
        if self._failure is not None:
            raise self._failure

    async def _fold(
        self, partition: TopicPartition, records: list[ConsumerRecord], generation: int
    ) -> None:
        """Make messages of what happened. Raises ``ProduceFailed``, ``UnknownSchema``."""
        made = list(self._made_of(partition.topic, records))
        if made:
            deadline_s = time.monotonic() + _PRODUCE_WITHIN_S
            await self.deliveries.producer.deliver(made, deadline_s)
        if generation == self._generation:
            self._folded[partition] = records[-1].offset + 1

    def _told_now(self) -> Mapping[bytes, Webhooks]:
        config = self.deliveries.config()
        if config.offset != self._told[0]:
            self._told = config.offset, told_organizations(config)
        return self._told[1]

    def _made_of(self, topic: str, records: Iterable[ConsumerRecord]) -> Iterable[Outgoing]:
        told = self._told_now()
        if not told:
            return
        now_ms = self.deliveries.clock.now_ms()
        for record in records:
            webhooks = told.get(record.key)
            if webhooks is not None:
                message = message_of(topic, record.value, webhooks, now_ms)
                if message is not None:
                    yield webhook_record(message)

    def _begin(self, records: Iterable[ConsumerRecord], generation: int) -> None:
        for record in records:
            place, size = (record.topic, record.partition), len(record.value or b"")
            is_new = self._window.add(
                place, generation, record.offset, size, time.monotonic(), record.timestamp
            )
            if is_new:
                task = asyncio.create_task(self._deliver(record, generation))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _deliver(self, record: ConsumerRecord, generation: int) -> None:
        place = (record.topic, record.partition)
        try:
            message = decode_as(record.value, WebhookMessage)
        except MalformedRecord as error:
            _LOG.event(
                LogEvent.WEBHOOK_UNREADABLE,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error=error,
            )
        except Exception as error:  # noqa: BLE001  # a newer version reads it
            self._failure = error
            return
        else:
            try:
                await self.deliveries.deliver(message, record.topic, record.timestamp)
            except Exception as error:  # noqa: BLE001  # it is not done, and read again
                self._failure = error
                return
        self._window.finish(place, generation, record.offset, len(record.value or b""))

    def _hold_back(self, consumer: AIOKafkaConsumer) -> None:
        """Read no more of a partition while enough of it is looked at."""
        for partition in consumer.assignment():
            records = self._window.load_of((partition.topic, partition.partition)).records
            if records >= _AHEAD_MAX and partition not in self._paused:
                consumer.pause(partition)
                self._paused.add(partition)
            elif records <= _AHEAD_MAX // 2 and partition in self._paused:
                consumer.resume(partition)
                self._paused.discard(partition)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        self._committed_s = time.monotonic()
        marks, versions = self._window.to_commit(), self._window.versions()
        folded = dict(self._folded)
        done: dict[TopicPartition, int | OffsetAndMetadata] = {
            TopicPartition(*place): OffsetAndMetadata(mark.offset, encode_mark(mark))
            for place, mark in marks.items()
        }
        done |= folded
        if not done:
            return
        try:
            await consumer.commit(done)
        except (CommitFailedError, IllegalStateError) as error:
            _LOG.event(LogEvent.ROUND_WAITS, step="commit webhooks", error=error)
            return
        self._window.note_committed(versions)
        self._folded = {p: at for p, at in self._folded.items() if folded.get(p) != at}

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self) -> None:
        self._generation += 1
        self._window.forget_older()
        self._folded.clear()
        self._paused.clear()


def _skipped(partition: Partition, expected: int, found: int) -> NoReturn:
    raise OffsetGap(f"{partition}: expected {expected}, found {found}")
