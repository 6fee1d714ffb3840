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
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import MalformedRecord, UnknownSchema, decode, decode_as
from schemas.events import RequestAccepted, RequestFinished
from schemas.ids import uuid7_time_ms
from schemas.runtime.kafka.stretches import (
    LogReaders,
    OutOfBounds,
    Stretch,
    records_in,
    stretch_since,
)
from schemas.runtime.process.pace import Pace
from schemas.times import PRODUCE_WITHIN_MS
from schemas.topics import BACKGROUND, OUTCOMES, REQUESTS

READERS: Final = 8
LOOKUP_WITHIN_S: Final = 5.0
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


@dataclass(frozen=True, slots=True)
class Absent:
    """The log was read as far as is needed, and has none."""


@dataclass(frozen=True, slots=True)
class Unproved:
    """It could not be told within the bounds, or a newer version wrote what stands there."""


Acceptance: TypeAlias = InLog | Absent | Unproved
Ending: TypeAlias = RequestFinished | Absent | Unproved


UNTOLD: Final = (TimeoutError, KafkaError, OutOfBounds, UnknownSchema)
"""What a look-up that could not be told ends with."""


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


class OutcomeLookup:
    """Reads outside of any consumer group, a few look-ups at a time; their shares are the caller's to give."""

    def __init__(self, brokers: str) -> None:
        self._readers = LogReaders(brokers, (OUTCOMES, REQUESTS, BACKGROUND), READERS)

    async def find_accepted(
        self, org: str, request_id: str, until_ms: int, within_s: float = LOOKUP_WITHIN_S
    ) -> Acceptance:
        """Whether a request was accepted until then."""
        window = Window(request_id.encode(), uuid7_time_ms(request_id), until_ms)
        try:
            async with asyncio.timeout(within_s), self._readers.reader() as consumer:
                for topic in (REQUESTS, BACKGROUND):
                    partition = await self._readers.partition(topic, org)
                    found = await find_in(consumer, partition, window)
                    if not isinstance(found, Absent):
                        return found if isinstance(found, Unproved) else _in_log(found)
        except UNTOLD:
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
            async with asyncio.timeout(within_s), self._readers.reader() as consumer:
                partition = await self._readers.partition(OUTCOMES, org)
                stretch = await stretch_since(consumer, partition, since_ms)
                async for record in records_in(consumer, stretch):
                    outcome = _outcome(record) if is_of(record, wanted) else None
                    if outcome is not None:
                        return outcome
        except UNTOLD:
            return Unproved()
        return Absent()

    async def stop(self) -> None:
        """Disconnect."""
        await self._readers.stop()


async def find_in(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    window: Window,
    reaches_ms: tuple[int, ...] = _REACHES_MS,
    pace: Pace | None = None,
) -> Any:
    """The record of the request in the partition, ``Absent`` where that is proved, else ``Unproved``.

    What cannot be told within the bounds raises one of ``UNTOLD``."""
    for reach_ms in reaches_ms:
        stretch = await stretch_since(consumer, partition, window.made_ms - reach_ms)
        found = await _read_through(consumer, stretch, window, pace)
        if not isinstance(found, Unproved):
            return found
    return Unproved()


async def _read_through(
    consumer: AIOKafkaConsumer, stretch: Stretch, window: Window, pace: Pace | None
) -> Any:
    """``Absent`` only where the read began early enough, else ``Unproved`` at once."""
    has_passed_start = stretch.start == 0
    async for record in records_in(consumer, stretch, pace):
        if is_of(record, window.request_id):
            return record
        has_passed_start = has_passed_start or window.begins_after(record)
        if not has_passed_start:
            return Unproved()
        if window.ended_before(record):
            return Absent()
    return Absent() if has_passed_start else Unproved()


def is_of(record: Any, request_id: bytes) -> bool:
    """Whether its headers name the request."""
    return ("request_id", request_id) in record.headers


def _in_log(record: Any) -> InLog:
    try:
        produce_by_ms = decode_as(record.value, RequestAccepted).produce_by_ms
    except MalformedRecord:
        produce_by_ms = 0  # Nobody will decide it.
    return InLog(record.timestamp, record.timestamp + _SKEW_MS <= produce_by_ms)


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
