"""Finds what the log has of one request: no index is kept, because a request's id carries its time.

Each question is one seek and a bounded read (time, records, bytes) of the organization's partition.

**Was it accepted?** (``find_accepted``.) Its absence is proved. Times in ids, and the ``ce_time`` with which
every record of a request says when it was accepted, are of one clock, the ledger's. Let T be the time in the id,
and U the time after which no record of it can have an effect: the ``produce_by`` of its last produce, since the
limiter ends what was appended later, and at the latest its deadline, since the ledger admits nothing past
it. So a record with an effect was appended within [T, U]. A read has passed its place if it

- began at a record that was accepted long enough before T to have been appended before T, or where the
  topic itself begins, and
- went on to a record that was accepted after U, or to what was the end at a time after U.

What is not there then never ran and never will: absent, right after U and for ever. Before U the end says
no more than "not yet". The broker's clock only chooses where to begin; where it misled, the read begins
once more, further back. What cannot be proved within the bounds is unsure.

**How did it end?** (``find_outcome``.) An outcome may be written long after the deadline, when a limiter
was away, so its absence proves nothing about tomorrow: who was accepted and has no outcome is open. The read
begins where the broker's clock stood when the request was appended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from schemas.codec import MalformedRecord, UnknownSchema, decode, decode_as
from schemas.events import RequestAccepted, RequestFinished
from schemas.failures import Transient
from schemas.ids import uuid7_time_ms
from schemas.partitions import partition_of
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.free_consumer import positions_in, stop_consumer
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.times import PRODUCE_WITHIN_MS
from schemas.topics import BACKGROUND, OUTCOMES, REQUESTS

READERS: Final = 8
LOOKUP_WITHIN_S: Final = 5.0
_RECORDS_MAX: Final = 200_000
_BYTES_MAX: Final = 64 * 1024 * 1024
_FETCH_BYTES: Final = 1024 * 1024
_POLL_MS: Final = 200
_RECORDS_PER_POLL: Final = 500

_SKEW_MS: Final = 2_000
"""Between the ledger's clock as two processes know it."""
_REACHES_MS: Final = (60_000, 15 * 60_000)
"""How far before the time wanted the broker's clock is asked for."""


@dataclass(frozen=True, slots=True)
class InLog:
    """Its record stands in the log; when it was appended, by the broker's clock."""

    appended_ms: int
    is_in_time: bool
    """Whether it was appended well before its ``produce_by``: then it will be decided."""
    request: RequestAccepted | None = None
    """What stands there; ``None`` where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The log was read as far as is needed, and has none."""


@dataclass(frozen=True, slots=True)
class Unproved:
    """It could not be told within the bounds, or a newer version wrote what stands there."""


Acceptance: TypeAlias = InLog | Absent | Unproved
Ending: TypeAlias = RequestFinished | Absent | Unproved


class _OutOfBounds(Transient):
    """More would have to be read than one look-up may."""


_UNTOLD: Final = (TimeoutError, KafkaError, _OutOfBounds, UnknownSchema)


@dataclass(frozen=True, slots=True)
class Window:
    """Where the record of a request stands, if it stands anywhere; times in Unix milliseconds."""

    request_id: bytes
    made_ms: int
    until_ms: int

    def begins_after(self, record: Any) -> bool:
        """Whether it is certain that the request was appended later than this record."""
        at_ms = _accepted_ms(record)
        return at_ms is not None and at_ms + PRODUCE_WITHIN_MS + _SKEW_MS <= self.made_ms

    def ended_before(self, record: Any) -> bool:
        """Whether it is certain that a request of effect was appended earlier than this record."""
        at_ms = _accepted_ms(record)
        return at_ms is not None and at_ms > self.until_ms + _SKEW_MS


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What is read of a partition: from ``start`` to what is the end now; ``begin`` is its oldest record."""

    partition: TopicPartition
    begin: int
    start: int
    end: int


class OutcomeLookup:
    """Reads outside of any consumer group, a few look-ups at a time; their shares are the caller's to give."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._counts: dict[str, int] = {}
        """Partitions by topic, which are fixed for life."""
        self._idle: list[AIOKafkaConsumer] = []
        self._turns = asyncio.Semaphore(READERS)

    async def find_accepted(
        self, org: str, request_id: str, until_ms: int, within_s: float = LOOKUP_WITHIN_S
    ) -> Acceptance:
        """Whether a request was accepted until then."""
        window = Window(request_id.encode(), uuid7_time_ms(request_id), until_ms)
        try:
            async with asyncio.timeout(within_s), self._turns, self._reader() as consumer:
                for topic in (REQUESTS, BACKGROUND):
                    partition = await self._partition(topic, org)
                    found = await _find_in(consumer, partition, window)
                    if not isinstance(found, Absent):
                        return found
        except _UNTOLD:
            return Unproved()
        return Absent()

    async def find_outcome(
        self,
        org: str,
        request_id: str,
        appended_ms: int | None = None,
        within_s: float = LOOKUP_WITHIN_S,
    ) -> Ending:
        """The effective outcome of a request, which was appended at that time of the broker's clock;
        one of which that is not known is looked for from long before the time in its id."""
        near_ms, far_ms = _REACHES_MS
        since_ms = uuid7_time_ms(request_id) - far_ms
        if appended_ms is not None:
            since_ms = appended_ms - near_ms
        wanted = request_id.encode()
        try:
            async with asyncio.timeout(within_s), self._turns, self._reader() as consumer:
                partition = await self._partition(OUTCOMES, org)
                stretch = await _stretch(consumer, partition, since_ms)
                async for record in _records(consumer, stretch):
                    outcome = _outcome(record) if _is_of(record, wanted) else None
                    if outcome is not None:
                        return outcome
        except _UNTOLD:
            return Unproved()
        return Absent()

    async def stop(self) -> None:
        """Disconnect."""
        while self._idle:
            await stop_consumer(self._idle.pop())

    async def _partition(self, topic: str, org: str) -> TopicPartition:
        if not self._counts.get(topic):
            found = await list_topics(self._brokers, (OUTCOMES, REQUESTS, BACKGROUND))
            self._counts = {each.name: each.partitions for each in found}
        count = self._counts.get(topic)
        if not count:
            raise UnknownTopicOrPartitionError(topic)
        return TopicPartition(topic, partition_of(org.encode(), count))

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        is_new = not self._idle
        consumer = self._new_reader() if is_new else self._idle.pop()
        try:
            if is_new:
                await consumer.start()
            yield consumer
        except BaseException:
            await stop_consumer(consumer)
            raise
        consumer.unsubscribe()
        self._idle.append(consumer)

    def _new_reader(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **client_options(self._brokers),
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
        )


async def _find_in(
    consumer: AIOKafkaConsumer, partition: TopicPartition, window: Window
) -> Acceptance:
    """Whether the request stands in the partition."""
    for reach_ms in _REACHES_MS:
        stretch = await _stretch(consumer, partition, window.made_ms - reach_ms)
        found = await _read_through(consumer, stretch, window)
        if not isinstance(found, Unproved):
            return found
    return Unproved()


async def _read_through(
    consumer: AIOKafkaConsumer, stretch: _Stretch, window: Window
) -> Acceptance:
    """``Absent`` only where the read began early enough, else ``Unproved`` at once."""
    has_passed_start = stretch.start == 0
    async for record in _records(consumer, stretch):
        if _is_of(record, window.request_id):
            return _in_log(record)
        has_passed_start = has_passed_start or window.begins_after(record)
        if not has_passed_start:
            return Unproved()
        if window.ended_before(record):
            return Absent()
    return Absent() if has_passed_start else Unproved()


async def _stretch(
    consumer: AIOKafkaConsumer, partition: TopicPartition, since_ms: int
) -> _Stretch:
    """From the last record before that time on: it is the witness that the read began early enough."""
    at = (await positions_in(consumer, [partition]))[partition]
    first = (await consumer.offsets_for_times({partition: max(0, since_ms)}))[partition]
    start = (at.end if first is None else first.offset) - 1
    return _Stretch(partition, at.begin, max(at.begin, start), at.end)


async def _records(consumer: AIOKafkaConsumer, stretch: _Stretch) -> AsyncIterator[Any]:
    """The records of the stretch; raises ``_OutOfBounds``."""
    if stretch.start >= stretch.end:
        return
    consumer.assign([stretch.partition])
    consumer.seek(stretch.partition, stretch.start)
    records = size = 0
    while await consumer.position(stretch.partition) < stretch.end:
        found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL)
        for record in found.get(stretch.partition, ()):
            records, size = records + 1, size + len(record.value or b"")
            yield record
        if records > _RECORDS_MAX or size > _BYTES_MAX:
            raise _OutOfBounds(f"{records} records, {size} bytes")
        await asyncio.sleep(0)


def _is_of(record: Any, request_id: bytes) -> bool:
    return ("request_id", request_id) in record.headers


def _in_log(record: Any) -> InLog:
    try:
        request = decode_as(record.value, RequestAccepted)
    except MalformedRecord:
        return InLog(record.timestamp, is_in_time=False)  # Nobody will decide it.
    is_in_time = record.timestamp + _SKEW_MS <= request.produce_by_ms
    return InLog(record.timestamp, is_in_time, request)


def _outcome(record: Any) -> RequestFinished | None:
    try:
        event = decode(record.value)
    except MalformedRecord:
        return None  # Accounting dead-letters it; a reader has nothing to add.
    return event if isinstance(event, RequestFinished) else None


def _accepted_ms(record: Any) -> int | None:
    """When the record's request was accepted, by the clock that ids go by; ``None`` if it does not say."""
    for name, sent in record.headers:
        if name == "ce_time":
            try:
                return round(datetime.fromisoformat(sent.decode("ascii")).timestamp() * 1_000)
            except (ValueError, OverflowError):
                return None
    return None
