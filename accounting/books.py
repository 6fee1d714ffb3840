"""Books outcomes: into the usage tables under the offset guard, then as usage lines to Kafka.

Batches of a partition are booked strictly in order, because the guard skips what is not above the last
booked offset. Partitions do not wait for each other: one whose ledger shard is closed, or whose rows wait
for the log, waits alone and says what for. Undecodable bytes are dead-lettered; anything else unexpected
stops the process, since a skipped outcome is lost money.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from accounting.booking import BookedThrough, Entry, Place, entry_of
from accounting.earlier import AskedRow, Earlier, LogUnreadable
from accounting.kept import kept_of
from accounting.late_outcomes import late_corrections
from accounting.usage_counts import count_usage
from schemas import topics
from schemas.codec import MalformedRecord, decode, decode_as
from schemas.events import AttemptAdjusted, RequestFinished
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.outgoing import Outgoing, adjustment_record, kept_record, usage_record
from schemas.runtime.kafka.consume.ack_window import Partition
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.retry import retry_until
from schemas.runtime.process.telemetry import Metrics
from schemas.times import LedgerTimes

_LOG = EventLog(__name__)

T = TypeVar("T")

_AWAY = (LedgerUnavailable, LogUnreadable)
_MS_PER_S = 1_000
_FOR_AS_LONG_AS_IT_TAKES_S = 7 * 24 * 3_600.0


class BookingLedger(Protocol):
    """What outcomes are booked in: the ledger, or a shadow of it."""

    async def book(self, document: documents.Book) -> answers.Booked:
        """The fate of each row."""


class LinesLog(Protocol):
    """What takes the records that follow from an outcome."""

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        """Returns once all of them are kept."""


class Graveyard(Protocol):
    """What takes records that can never be booked."""

    async def take(self, record: Record, stage: str, error: Exception) -> None:
        """Returns once it is kept."""


class EarlierOutcomes(Protocol):
    """What knows whether a request has an earlier outcome."""

    async def copies(self, partition: int, rows: Sequence[AskedRow]) -> set[int]:
        """Offsets of rows that are not the first of their request."""

    async def first_of(self, partition: int, row: AskedRow) -> Earlier | None:
        """The outcome of its request that stands before the row."""


class BookedWatch(Protocol):
    """What hears of every row that was booked, before its offset goes."""

    def took(self, partition: int, first: int, last: int) -> None:
        """A batch with these offsets is about to be booked."""

    async def booked(
        self,
        partition: int,
        org: str,
        rows: Iterable[tuple[Entry, answers.RowFate]],
        at_ms: int,
        deadline_s: float,
    ) -> None:
        """Rows of an organization, each with its fate."""


@dataclass(slots=True)
class Books:
    """Handles batches of the outcomes topic. A replay gives it shadows of its parts."""

    ledger: BookingLedger
    producer: LinesLog
    dead_letters: Graveyard
    metrics: Metrics
    clock: Clock
    tables: LinesLog
    earlier: EarlierOutcomes
    times: LedgerTimes
    thresholds: BookedWatch
    booked: BookedThrough = field(default_factory=dict)
    waits: dict[Partition, str] = field(default_factory=dict)
    """Partitions whose batch waits for something that is away, with the cause."""

    async def handle(self, batch: list[Record]) -> None:
        """Book the batch, which is of one partition; returns when tables and usage lines are durable."""
        self.metrics.observe("tallygate_batch_records", len(batch))
        partition = batch[0].partition
        self.thresholds.took(partition, batch[0].offset, batch[-1].offset)
        per_org: dict[str, list[tuple[Record, Entry]]] = defaultdict(list)
        for record in batch:
            entry = await self._entry(record)
            if entry is not None:
                per_org[entry.org].append((record, entry))
        books = [self._book(partition, org, rows) for org, rows in per_org.items()]
        await (books[0] if len(books) == 1 else asyncio.gather(*books))
        lag_s = (self.clock.now_ms() - batch[0].timestamp_ms) / _MS_PER_S
        self.metrics.observe("tallygate_usage_export_lag_seconds", max(0.0, lag_s))
        # Batches of a partition come in its order: what stands before is booked, too.
        self.booked[partition] = Place(batch[-1].offset, batch[-1].timestamp_ms)

    async def _entry(self, record: Record) -> Entry | None:
        try:
            event = _outcome_in(record)
        except MalformedRecord as error:
            await self.dead_letters.take(record, "decode", error)
            self.metrics.count("tallygate_dead_letters_total", record.topic)
            record.finish()
            return None
        ref, at_ms = record.ref, record.timestamp_ms
        entry = entry_of(event, ref, at_ms)
        kept = kept_of(event, ref, at_ms, self.times)
        return entry.keeping(kept) if kept else entry

    async def _book(self, partition: int, org: str, rows: list[tuple[Record, Entry]]) -> None:
        deadline_s = self.clock.monotonic_s() + _FOR_AS_LONG_AS_IT_TAKES_S
        while rows:
            document = documents.Book(
                org=org, partition=partition, rows=tuple(entry.row for _, entry in rows)
            )
            booked = await self._once_there(
                partition, partial(self.ledger.book, document), deadline_s
            )
            decided, rows = rows[: len(booked.rows)], rows[len(booked.rows) :]
            await self._tell_thresholds(partition, org, decided, booked.rows, deadline_s)
            await self._correct(decided, booked.rows, deadline_s)
            await self._write_lines(decided, booked.rows, deadline_s)
            if rows:
                rows = await self._looked_up(partition, rows, deadline_s)

    async def _tell_thresholds(
        self,
        partition: int,
        org: str,
        rows: list[tuple[Record, Entry]],
        fates: Sequence[answers.RowFate],
        deadline_s: float,
    ) -> None:
        """Tell which limits are spent to a share of theirs; before the rows are finished, so that nobody may be killed in between."""
        if not rows:
            return
        booked = [(entry, fate) for (_, entry), fate in zip(rows, fates, strict=True)]
        at_ms = rows[-1][0].timestamp_ms
        told = partial(self.thresholds.booked, partition, org, booked, at_ms, deadline_s)
        await self._once_there(partition, told, deadline_s)

    async def _correct(
        self,
        rows: list[tuple[Record, Entry]],
        fates: Sequence[answers.RowFate],
        deadline_s: float,
    ) -> None:
        """Produce the corrections of outcomes that nobody settled, and that came after another one."""
        for (record, entry), fate in zip(rows, fates, strict=True):
            if fate != "DUPLICATE" or not (entry.row.unsettled and entry.row.ran):
                continue
            first = await self._once_there(
                record.partition,
                partial(self.earlier.first_of, record.partition, entry.row),
                deadline_s,
            )
            if first is None:
                continue  # Its retention is over, and so is that of anything it would correct.
            late, places = decode_as(record.value, RequestFinished), [first.place, record.ref]
            changes = late_corrections(first.outcome, late, places, record.timestamp_ms)
            more = {"request_id": late.request_id.encode()}
            corrections = [adjustment_record(change, more, "accounting") for change in changes]
            await self.producer.deliver(corrections, deadline_s)
            if changes:
                self.metrics.count("tallygate_late_attempts_total")
                _LOG.event(LogEvent.ATTEMPT_LATE, request_id=late.request_id, org=late.org)

    async def _write_lines(
        self,
        rows: list[tuple[Record, Entry]],
        fates: Sequence[answers.RowFate],
        deadline_s: float,
    ) -> None:
        effective = [
            (entry, fate)
            for (_, entry), fate in zip(rows, fates, strict=True)
            if fate != "DUPLICATE"
        ]
        lines = [usage_record(line) for entry, _ in effective for line in entry.lines]
        kept = [kept_record(each) for entry, _ in effective for each in entry.kept]
        await self.producer.deliver(lines, deadline_s)
        if kept:
            await self.tables.deliver(kept, deadline_s)
        for entry, fate in effective:
            if fate == "BOOKED":
                self._count(entry)
        for record, _ in rows:
            record.finish()

    async def _looked_up(
        self, partition: int, rows: list[tuple[Record, Entry]], deadline_s: float
    ) -> list[tuple[Record, Entry]]:
        """The rows with the log's word on whether they are the first of their request."""
        wanted = tuple(entry.row for _, entry in rows)
        copies = await self._once_there(
            partition, partial(self.earlier.copies, partition, wanted), deadline_s
        )
        _LOG.event(LogEvent.ROWS_LOOKED_UP, partition=partition, count=len(rows))
        return [
            (record, entry.decided(is_first=entry.row.offset not in copies))
            for record, entry in rows
        ]

    async def _once_there(
        self, partition: int, work: Callable[[], Awaitable[T]], deadline_s: float
    ) -> T:
        """What the ledger or the log answers; while it is away, the partition waits for that cause."""
        place = topics.OUTCOMES, partition

        async def ask() -> T:
            try:
                return await work()
            except _AWAY as error:
                self.waits[place] = f"{type(error).__name__}: {error}"
                raise

        try:
            return await retry_until(ask, _AWAY, deadline_s)
        finally:
            self.waits.pop(place, None)

    def _count(self, entry: Entry) -> None:
        for line in entry.lines:
            self.metrics.count("tallygate_usage_lines_total")
            count_usage(self.metrics, line)


def _outcome_in(record: Record) -> RequestFinished | AttemptAdjusted:
    event = decode(record.value)
    if not isinstance(event, RequestFinished | AttemptAdjusted):
        raise MalformedRecord(f"a {type(event).__name__} is no outcome")
    return event
