"""Reads what explains differences of one organization: its outcomes and usage lines, and what the ledger knows of them.

Only where something differs, and within bounds: what they leave out is said by naming less, never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition

from ingress.admin.finance.explain import (
    Booked,
    Explanation,
    Rows,
    booked_by,
    cells_of,
    explain,
    rows_that_differ,
)
from ingress.admin.finance.ledger_tables import known_requests
from ingress.admin.finance.reconcile import Reading, Span, judge
from ingress.admin.finance.verify import (
    HOUR,
    NOTHING_UNDER_WAY,
    Difference,
    OrgTables,
    UnderWay,
)
from ingress.admin.log.search import TO_THE_END_MS, Bounds, search_log
from schemas.codec import UNDECODABLE, decode
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished, UsageRecorded
from schemas.ledger.shards import Shards
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.cold_store import ColdStore
from schemas.topics import OUTCOMES, USAGE_RECORDS

_BOUNDS: Final = Bounds(deadline_s=10.0, records_max=100_000)
_ROWS_BACK_MS: Final = 2 * 3_600_000
"""Rows are named of hours that began so long before anything may have happened; older ones take too long to read."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be explained: differences of one organization, and from when on something may have happened."""

    org: str
    shards: Shards
    differences: Sequence[Difference]
    tables: Sequence[OrgTables]
    """In which they were found."""
    from_ms: int
    """By the broker's clock, as every time here."""
    earlier_ms: int
    """How much earlier than by the ledger's clock something may have been appended."""
    processed: int
    """The first outcome of the shard that accounting is not done with."""

    @property
    def under_way(self) -> UnderWay:
        """What is under way, as the first of the tables has it."""
        known = (tables.under_way for tables in self.tables if tables.under_way)
        return next(known, NOTHING_UNDER_WAY)

    def examined(self, hour: str) -> OrgTables | None:
        """The tables with that hour."""
        return next((tables for tables in self.tables if hour in tables.cells), None)


@dataclass(slots=True)
class _Evidence:
    """What was read of one organization."""

    org: str
    reading: Reading
    booked: list[Booked] = field(default_factory=list)

    def take(self, record: ConsumerRecord) -> None:
        """Add what the record says of the organization."""
        event = _event_of(record, self.org)
        match event:
            case RequestFinished() | AttemptAdjusted():
                ref = RecordRef(topic=OUTCOMES, partition=record.partition, offset=record.offset)
                self.reading.add_outcome(event, ref, record.timestamp)
                self.booked.append(booked_by(event))
            case UsageRecorded():
                self.reading.add_line(event, record.timestamp, record.value)


def _event_of(record: ConsumerRecord, org: str) -> Any:
    try:
        event = decode(record.value)
    except UNDECODABLE:
        return None
    return event if getattr(event, "org", None) == org else None


@dataclass(frozen=True, slots=True)
class Explaining:
    """The reader of reasons."""

    brokers: str
    store: ColdStore

    async def explained(self, question: Question) -> dict[Difference, Explanation]:
        """Each difference with the requests that explain it. Raises ``Transient`` failures, ``KafkaError``."""
        from_ms, shards = question.from_ms, question.shards
        reading = Reading(Span(from_ms, TO_THE_END_MS, from_ms))
        evidence = _Evidence(question.org, reading)
        for topic in (OUTCOMES, USAGE_RECORDS):
            if not await self._read(question, topic, from_ms, evidence.take):
                reading.is_complete = False
        known = await known_requests(self.store, shards, reading.outcomes.values())
        findings, _ = judge(reading, {shards.of(question.org): question.processed}, known)
        return {
            each: explain(
                each,
                question.under_way,
                findings,
                evidence.booked,
                await self._rows(question, each),
            )
            for each in question.differences
        }

    async def _rows(self, question: Question, difference: Difference) -> Rows:
        """The rows of the hour that differ; none of an hour that is too long ago, or too long."""
        hour = difference.what.removeprefix(HOUR)
        tables = question.examined(hour)
        if tables is None:
            return ()
        began = datetime.fromisoformat(f"{hour}:00").replace(tzinfo=UTC)
        from_ms = int(began.timestamp() * 1_000) - question.earlier_ms
        if from_ms < question.from_ms - _ROWS_BACK_MS:
            return ()
        lines: dict[str, UsageRecorded] = {}

        def take(record: ConsumerRecord) -> None:
            line = _event_of(record, question.org)
            if isinstance(line, UsageRecorded) and line.outcome.offset <= tables.reached:
                lines.setdefault(line.usage_id, line)

        if not await self._read(question, USAGE_RECORDS, from_ms, take):
            return ()
        return rows_that_differ(tables.cells[hour], cells_of(lines.values(), hour))

    async def _read(
        self, question: Question, topic: str, from_ms: int, take: Callable[[ConsumerRecord], None]
    ) -> bool:
        """Read the organization's partition of the topic from that time; whether to its end."""
        partition = TopicPartition(topic, question.shards.of(question.org))
        span_ms = from_ms, TO_THE_END_MS
        async with search_log(self.brokers, [partition], span_ms, Clock(), _BOUNDS) as search:
            async for batch in search.batches():
                for record in batch:
                    take(record)
        return not search.gave_up
