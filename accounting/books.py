"""Books outcomes: into the usage tables under the offset guard, then as usage lines to Kafka.

Batches of a partition are booked strictly in order, because the guard skips what is not above the last
booked offset. Undecodable bytes are dead-lettered; anything else unexpected stops the process, since a
skipped outcome is lost money.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from accounting.booking import Entry, entry_of
from schemas import topics
from schemas.codec import MalformedRecord, decode, encode
from schemas.events import AttemptAdjusted, RequestFinished, UsageRecorded
from schemas.headers import event_headers
from schemas.runtime.clock import Clock
from schemas.runtime.consume.dead_letters import DeadLetters
from schemas.runtime.consume.records import Record
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.ledger.errors import LedgerUnavailable
from schemas.runtime.produce import Outgoing, Producer
from schemas.runtime.retry import retry_until
from schemas.runtime.telemetry import Metrics

_FOR_AS_LONG_AS_IT_TAKES_S = 7 * 24 * 3_600.0


@dataclass(slots=True)
class TouchedTables:
    """Which tables changed since their last snapshot: per organization and partition."""

    hours: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    balances: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))

    def note(self, partition: int, entry: Entry) -> None:
        """The entry was booked."""
        self.hours[entry.org, partition].update(u.hour for u in entry.row.usage)
        self.balances[entry.org, partition].update(b.key for b in entry.row.bookings)


@dataclass(slots=True)
class Books:
    """Handles batches of the outcomes topic."""

    ledger: LedgerClient
    producer: Producer
    dead_letters: DeadLetters
    metrics: Metrics
    clock: Clock
    touched: TouchedTables

    async def handle(self, batch: list[Record]) -> None:
        """Book the batch; returns when tables and usage lines are durable."""
        self.metrics.observe("tallygate_batch_records", len(batch))
        per_lane: dict[tuple[int, str], list[tuple[Record, Entry]]] = defaultdict(list)
        for record in batch:
            entry = await self._entry(record)
            if entry is not None:
                per_lane[record.partition, entry.org].append((record, entry))
        await asyncio.gather(
            *(self._book(partition, org, rows) for (partition, org), rows in per_lane.items())
        )

    async def _entry(self, record: Record) -> Entry | None:
        try:
            event = _outcome_in(record)
        except MalformedRecord as error:
            await self.dead_letters.take(record, "decode", error)
            self.metrics.count("tallygate_dead_letters_total", record.topic)
            record.finish()
            return None
        return entry_of(event, record.ref)

    async def _book(self, partition: int, org: str, rows: list[tuple[Record, Entry]]) -> None:
        document = documents.Book(
            org=org, partition=partition, rows=tuple(entry.row for _, entry in rows)
        )

        async def book() -> answers.Booked:
            return await self.ledger.book(document)

        deadline_s = self.clock.monotonic_s() + _FOR_AS_LONG_AS_IT_TAKES_S
        booked = await retry_until(book, LedgerUnavailable, deadline_s)
        effective = [
            (entry, verdict)
            for (_, entry), verdict in zip(rows, booked.rows, strict=True)
            if verdict != "DUPLICATE"
        ]
        lines = [_outgoing(line) for entry, _ in effective for line in entry.lines]
        await self.producer.deliver(lines, deadline_s)
        for entry, verdict in effective:
            if verdict == "BOOKED":
                self._count(partition, entry)
        for record, _ in rows:
            record.finish()

    def _count(self, partition: int, entry: Entry) -> None:
        self.touched.note(partition, entry)
        for line in entry.lines:
            self.metrics.count("tallygate_usage_lines_total")
            self.metrics.count("tallygate_tokens_total", "input", by=max(0, line.input_tokens))
            self.metrics.count("tallygate_tokens_total", "output", by=max(0, line.output_tokens))


def _outcome_in(record: Record) -> RequestFinished | AttemptAdjusted:
    event = decode(record.value)
    if not isinstance(event, RequestFinished | AttemptAdjusted):
        raise MalformedRecord(f"a {type(event).__name__} is no outcome")
    return event


def _outgoing(line: UsageRecorded) -> Outgoing:
    """The usage line as a record; one that was produced before is equal to it, byte for byte."""
    more = {"request_id": line.request_id.encode()}
    headers = event_headers(
        "usage.recorded", line.usage_id, "accounting", line.finished_at_ms, more
    )
    return Outgoing(topics.USAGE_RECORDS, line.org.encode(), encode(line), headers)
