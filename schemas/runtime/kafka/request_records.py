"""Finds the records of one request for whoever made it: by their places where those are known, else by the time in its id.

Nothing is indexed. Where an outcome stands the ledger says for some minutes; an outcome names the records that it follows
from. What remains is read as ``outcome_lookup`` does, from where the id says that it was made, and no further than a proof
needs. All readings of a process keep one pace together, because clients are served beside them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer

from schemas.events import (
    AttemptAdjusted,
    RecordRef,
    RequestAccepted,
    RequestAdmitted,
    RequestFinished,
    UsageRecorded,
)
from schemas.ids import uuid7_time_ms
from schemas.runtime.kafka.outcome_lookup import UNTOLD, Absent, Unproved, Window, find_in, is_of
from schemas.runtime.kafka.record_reader import RecordGone, RecordReader, RecordUnreadable
from schemas.runtime.kafka.stretches import LogReaders, records_in, stretch_since
from schemas.runtime.process.pace import Pace
from schemas.timeline import Found, found_in
from schemas.times import FULL, MINUTE_MS
from schemas.topics import BACKGROUND, DISPATCH, OUTCOMES, REQUESTS, USAGE_RECORDS
from schemas.written_off import UNKNOWN_BACKEND

READERS: Final = 4
WITHIN_S: Final = 5.0
_REACHES_MS: Final = (15_000, 60_000, 15 * 60_000)
"""How far before the time of the id a read begins: the first is just what proves an absence, where clocks agree."""
_SKEW_MS: Final = 2_000
"""Between the clocks of two partitions' brokers."""
_ARRIVES_WITHIN_MS: Final = MINUTE_MS
"""From its id until the log has a request: what its body may take, its turn, and the log."""
_AFTERMATH_MS: Final = FULL.ledger.terminal_kept_ms
"""Corrections come this long after the deadline at most, unless somebody stood still for longer."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whose records are asked for, and what the ledger says of them."""

    org: str
    request_id: str
    now_ms: int
    """The ledger's time."""
    is_known: bool
    """Whether the ledger knows the request, so that it was accepted."""
    has_memory: bool = True
    """Whether the ledger would know of a decision; a rebuild brings that back last."""
    has_ended: bool | None = None
    """``None`` where the ledger does not say it."""
    outcome: RequestFinished | None = None
    """Where the ledger has it still."""
    outcome_at: RecordRef | None = None
    """Where it stands, if the ledger says it."""
    with_request: bool = False
    """Whether its first record is wanted where its outcome would do."""
    with_all: bool = False
    """Whether all its records are wanted."""


@dataclass(frozen=True, slots=True)
class Trail:
    """The records that were found."""

    found: tuple[Found, ...]
    is_whole: bool = True
    """Whether none is missing that must be there."""

    @property
    def accepted(self) -> RequestAccepted | None:
        """The request as it was accepted."""
        events = (each.event for each in self.found)
        return next((event for event in events if isinstance(event, RequestAccepted)), None)

    @property
    def outcome(self) -> RequestFinished | None:
        """The outcome that counts."""
        events = (each.event for each in self.found)
        return next((event for event in events if isinstance(event, RequestFinished)), None)


Trace: TypeAlias = Trail | Absent | Unproved


class RequestRecords:
    """Reads outside of any consumer group; whose turn it is, is the caller's to say."""

    def __init__(self, brokers: str) -> None:
        topics = (OUTCOMES, REQUESTS, BACKGROUND, DISPATCH, USAGE_RECORDS)
        self._readers = LogReaders(brokers, topics, READERS)
        self._places = RecordReader(brokers)
        self._pace = Pace()

    async def find(self, question: Question, within_s: float = WITHIN_S) -> Trace:
        """What the log has of a request: ``Absent`` where it has no such request of that organization, ``Unproved``
        where that cannot be told in time."""
        try:
            async with asyncio.timeout(within_s):
                return await self._find(question)
        except (*UNTOLD, RecordUnreadable):
            return Unproved()

    async def read(self, ref: RecordRef, within_s: float) -> bytes | None:
        """The value of one record; raises ``RecordUnreadable``."""
        value = await self._places.read(ref, within_s)
        await self._pace.rest(1, len(value or b""))
        return value

    async def stop(self) -> None:
        """Disconnect."""
        await asyncio.gather(self._readers.stop(), self._places.stop())

    async def _find(self, asked: Question) -> Trace:
        ended = await self._ended(asked)
        known = [] if ended is None else [ended]
        if ended is None:
            async with self._readers.reader() as consumer:
                accepted = await self._accepted(consumer, asked)
                if not isinstance(accepted, Found):
                    return accepted
                known = [accepted]
                since_ms = accepted.appended_at_ms
                if _may_have_ended(asked, accepted):
                    ended = await self._first(consumer, asked, OUTCOMES, RequestFinished, since_ms)
                    known += [] if ended is None else [ended]
                elif asked.with_all and asked.is_known:
                    admitted = await self._first(
                        consumer, asked, DISPATCH, RequestAdmitted, since_ms
                    )
                    return Trail(tuple(known if admitted is None else [*known, admitted]))
        if ended is None or not (asked.with_all or asked.with_request):
            return Trail(tuple(known))
        return await self._rest(asked, known, ended)

    async def _ended(self, asked: Question) -> Found | None:
        """The outcome without a search."""
        if asked.outcome is not None:
            nowhere = RecordRef(topic=OUTCOMES, partition=-1, offset=-1)
            return Found(nowhere, asked.outcome.finished_at_ms, asked.outcome)
        if asked.outcome_at is None:
            return None
        return await self._at(asked, asked.outcome_at)

    async def _at(self, asked: Question, ref: RecordRef) -> Found | None:
        """The record of the request that stands there; ``None`` where it is gone or another's."""
        try:
            record = await self._places.record(ref, WITHIN_S)
        except RecordGone:
            return None
        await self._pace.rest(1, len(record.value or b""))
        return _own(record, asked)

    async def _accepted(
        self, consumer: AIOKafkaConsumer, asked: Question
    ) -> Found | Absent | Unproved:
        made_ms = uuid7_time_ms(asked.request_id)
        # One that was produced anew, under its key, may stand later: as long as that may be, the ledger knows it.
        until_ms = made_ms + (FULL.deadline_max_ms if asked.is_known else _ARRIVES_WITHIN_MS)
        window = Window(asked.request_id.encode(), made_ms, until_ms)
        for topic in (REQUESTS, BACKGROUND):
            partition = await self._readers.partition(topic, asked.org)
            record = await find_in(consumer, partition, window, _REACHES_MS, self._pace)
            if isinstance(record, Unproved):
                return record
            if not isinstance(record, Absent):
                return _own(record, asked) or Absent()
        return Unproved() if asked.is_known else Absent()

    async def _first(
        self,
        consumer: AIOKafkaConsumer,
        asked: Question,
        topic: str,
        kind: type[RequestFinished | RequestAdmitted],
        since_ms: int,
    ) -> Found | None:
        """The first record of that kind from a time of the broker's clock on; only dispatch is keyed by the request."""
        key = asked.request_id if topic == DISPATCH else asked.org
        partition = await self._readers.partition(topic, key)
        stretch = await stretch_since(consumer, partition, since_ms - _SKEW_MS)
        wanted = asked.request_id.encode()
        async for record in records_in(consumer, stretch, self._pace):
            found = _own(record, asked) if is_of(record, wanted) else None
            if found is not None and isinstance(found.event, kind):
                return found
        return None

    async def _rest(self, asked: Question, known: list[Found], ended: Found) -> Trail:
        """What the outcome follows from, and what followed from it."""
        outcome = ended.event
        assert isinstance(outcome, RequestFinished)
        places = {(each.ref.topic, each.ref.partition, each.ref.offset) for each in known}
        parents = [ref for ref in outcome.parents if _place(ref) not in places]
        is_whole = bool(outcome.parents)
        for ref in parents if asked.with_all else parents[:1]:
            found = await self._at(asked, ref)
            known += [] if found is None else [found]
            is_whole = is_whole and found is not None
        if asked.with_all and ended.ref.offset >= 0 and outcome.attempts:
            async with self._readers.reader() as consumer:
                known += await self._lines(consumer, asked, ended)
                if any(each.backend == UNKNOWN_BACKEND for each in outcome.attempts):
                    known += await self._corrections(consumer, asked, ended)
        return Trail(tuple(known), is_whole)

    async def _lines(
        self, consumer: AIOKafkaConsumer, asked: Question, ended: Found
    ) -> list[Found]:
        """The usage lines of its attempts, as far as they are booked."""
        outcome = ended.event
        assert isinstance(outcome, RequestFinished)
        owed = {each.attempt for each in outcome.attempts}
        partition = await self._readers.partition(USAGE_RECORDS, asked.org)
        since_ms = ended.appended_at_ms - _SKEW_MS
        stretch = await stretch_since(consumer, partition, since_ms)
        wanted, lines = asked.request_id.encode(), []
        async for record in records_in(consumer, stretch, self._pace):
            found = _own(record, asked) if is_of(record, wanted) else None
            if found is None or not isinstance(found.event, UsageRecorded):
                continue
            lines.append(found)
            owed.discard(found.event.attempt)
            if not owed:
                break
        return lines

    async def _corrections(
        self, consumer: AIOKafkaConsumer, asked: Question, ended: Found
    ) -> list[Found]:
        """What an attempt that was written off turned out to have used."""
        outcome = ended.event
        assert isinstance(outcome, RequestFinished)
        partition = await self._readers.partition(OUTCOMES, asked.org)
        stretch = await stretch_since(consumer, partition, ended.appended_at_ms - _SKEW_MS)
        until_ms = max(ended.appended_at_ms, outcome.deadline_ms) + _AFTERMATH_MS
        wanted, changes = asked.request_id.encode(), []
        async for record in records_in(consumer, stretch, self._pace):
            if record.timestamp > until_ms:
                break
            found = _own(record, asked) if is_of(record, wanted) else None
            if found is not None and isinstance(found.event, AttemptAdjusted):
                changes.append(found)
        return changes


def _may_have_ended(asked: Question, accepted: Found) -> bool:
    """Whether there may be an outcome: before its deadline the ledger knows of each decision."""
    assert isinstance(accepted.event, RequestAccepted)
    is_early = asked.has_memory and not asked.is_known and asked.now_ms < accepted.event.deadline_ms
    return asked.has_ended is not False and not is_early


def _own(record: Any, asked: Question) -> Found | None:
    """The record, where it is of that request and of its organization: partitions are shared."""
    found = found_in(record, asked.request_id)
    return found if found is not None and getattr(found.event, "org", None) == asked.org else None


def _place(ref: RecordRef) -> tuple[str, int, int]:
    return ref.topic, ref.partition, ref.offset
