"""A log of outcomes that the books have booked, in memory: the live side of a replay, and the replay of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from accounting.books import Books
from deploy.replay.checkpoint import Checkpoint, open_checkpoint
from deploy.replay.difference import difference_of
from deploy.replay.folding import fold_outcomes
from deploy.replay.live import LiveTables
from deploy.replay.live_lines import LiveLines
from deploy.replay.pace import Pace
from deploy.replay.plan import Plan
from deploy.replay.ranges import Stretch
from deploy.replay.selection import ALL, Selection
from deploy.replay.shadow import NobodyWatches, ShadowGraveyard
from schemas.codec import encode
from schemas.events import RequestFinished
from schemas.ids import uuid7
from schemas.ledger import answers, documents
from schemas.ledger.model.ledger import LedgerModel
from schemas.ledger.shards import Shards
from schemas.outgoing import Outgoing, outcome_record
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL
from schemas.topics import OUTCOMES, USAGE_RECORDS
from tests.support.events import NOW_MS, attempt, finished
from tests.support.log_in_memory import LogInMemory

SHARDS = Shards(1)


def outcome(number: int, **more: Any) -> RequestFinished:
    """The outcome of the request with that number, which ended so many seconds after NOW_MS."""
    at_ms = NOW_MS + number * 1_000
    request_id = more.pop("request_id", uuid7(at_ms - 500, number.to_bytes(10)))
    ran = [attempt(finished_at_ms=at_ms, input_tokens=10 + number, **more.pop("attempt", {}))]
    more = {
        "finished_at_ms": at_ms,
        "accepted_at_ms": at_ms - 500,
        "deadline_ms": at_ms + 60_000,
    } | more
    return finished(more.pop("attempts", ran), [], request_id=request_id, **more)


@dataclass
class LiveBooks:
    """The ledger and the usage log, as accounting has made them of the outcomes."""

    log: LogInMemory
    model: LedgerModel = field(default_factory=lambda: LedgerModel(1))
    closed_shards: dict[int, str] = field(default_factory=dict)

    async def book(self, document: documents.Book) -> answers.Booked:
        return self.model.book(document)

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        for record in records:
            if record.topic == USAGE_RECORDS:
                self.log.append(record, 0, NOW_MS)

    async def closed(self, shards: Shards) -> dict[int, str]:
        return self.closed_shards

    async def snapshot(self, shard: int, document: documents.TakeSnapshot) -> answers.Snapshot:
        books, totals = self.model.books, self.model.limits.totals
        return answers.Snapshot(
            offsets={shard: books.reached.get((document.org, shard), -1)},
            usage={hour: dict(books.usage[document.org, hour]) for hour in document.hours},
            balances={},
            totals={each: dict(totals[document.org, each]) for each in document.balances},
        )


class _NothingEarlier:
    """The log has no outcome before what was read."""

    async def copies(self, partition: int, rows: Sequence[Any]) -> set[int]:
        return set()

    async def first_of(self, partition: int, row: Any) -> None:
        return None


class Killed(Exception):
    """The process is gone."""


@dataclass(slots=True)
class KilledPace(Pace):
    """A process that is killed after so many records, in pieces of one."""

    left: int = 0

    @property
    def piece(self) -> int:
        return 1

    async def after(self, records: int) -> None:
        self.left -= records
        if self.left <= 0:
            raise Killed


@dataclass
class ReplayScene:
    """Outcomes that were appended and booked."""

    file: Path
    log: LogInMemory = field(default_factory=LogInMemory)
    live: LiveBooks = field(init=False)

    def __post_init__(self) -> None:
        self.live = LiveBooks(self.log)

    async def append(self, *outcomes: RequestFinished) -> None:
        """Append them and book them."""
        records = [outcome_record(each, "dispatcher") for each in outcomes]
        await self.append_raw(*records)

    async def append_raw(self, *records: Outgoing) -> None:
        """The same with records of any content."""
        places = [self.log.append(each, 0, NOW_MS) for each in records]
        with open_checkpoint(self.file.with_suffix(".buried"), "live") as buried:
            books = Books(
                ledger=self.live, producer=self.live, dead_letters=ShadowGraveyard(buried),
                metrics=Metrics(), clock=Clock(), tables=self.live, earlier=_NothingEarlier(),
                times=FULL.ledger, thresholds=NobodyWatches(),
            )  # fmt: skip
            stored = next(
                iter(self.log.partitions[p] for p in self.log.partitions if p.topic == OUTCOMES)
            )
            await books.handle(
                [Record(stored[n], 0, lambda _: None, lambda *_: None) for n in places]
            )

    def alter(self, offset: int, **changes: Any) -> None:
        """Change an attempt of an outcome where it stands, as a copy of the source may have it."""
        (partition,) = [p for p in self.log.partitions if p.topic == OUTCOMES]
        stored = self.log.partitions[partition]
        event = outcome_of(stored[offset].value)
        first = msgspec.structs.replace(event.attempts[0], **changes)
        value = encode(msgspec.structs.replace(event, attempts=[first]))
        stored[offset] = _with_value(stored[offset], value)

    def plan(self, begin: int = 0, end: int | None = None, selection: Selection = ALL) -> Plan:
        """A plan over some of the outcomes."""
        (count,) = [len(r) for p, r in self.log.partitions.items() if p.topic == OUTCOMES]
        whole = begin == 0 and end in (None, count)
        stretch = Stretch(0, begin, count if end is None else end, whole)
        return Plan(OUTCOMES, (stretch,), selection)

    async def fold(self, checkpoint: Checkpoint, plan: Plan, pace: Pace | None = None) -> None:
        """Fold what the plan says."""
        await fold_outcomes(self.log, "nowhere", plan, checkpoint, pace or Pace(plan.records))

    async def fold_until_killed(self, plan: Plan, records: int) -> None:
        """Fold, and be gone after so many records."""
        with suppress(Killed), open_checkpoint(self.file, "a test") as checkpoint:
            pace = KilledPace(plan.records, left=records)
            await fold_outcomes(self.log, "nowhere", plan, checkpoint, pace)

    async def compared(self, checkpoint: Checkpoint, plan: Plan) -> dict[str, Any]:
        """The difference between the fold and what is live."""
        tables = LiveTables(self.live, SHARDS, checkpoint, NOW_MS)
        await tables.read_hours()
        if plan.stretches[0].is_whole_log and plan.selection.is_all:
            await tables.read_periods({0: plan.stretches[0].end})
        span = {0: (plan.stretches[0].begin, plan.stretches[0].end)}
        lines = LiveLines(checkpoint, plan.selection, span)
        await lines.read(self.log, 1)
        return difference_of(checkpoint, tables, lines)

    async def replayed(self, plan: Plan) -> tuple[dict[str, Any], dict[str, int]]:
        """Difference and counts of a whole replay."""
        async with self.opened() as checkpoint:
            await self.fold(checkpoint, plan)
            return await self.compared(checkpoint, plan), checkpoint.counts()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Checkpoint]:
        """The checkpoint of the replay."""
        with open_checkpoint(self.file, "a test") as checkpoint:
            yield checkpoint


def outcome_of(value: bytes | None) -> RequestFinished:
    """The outcome in a record."""
    from schemas.codec import decode_as  # noqa: PLC0415

    return decode_as(value, RequestFinished)


def _with_value(record: Any, value: bytes) -> Any:
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return type(record)(**(fields | {"value": value}))
