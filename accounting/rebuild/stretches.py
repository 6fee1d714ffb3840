"""Stretches of a shard's outcomes, and what folding one comes to, in whichever process that is done.

They only read; what a rebuild writes, its owner writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeAlias

import msgspec
from aiokafka import TopicPartition

from accounting.kept import kept_of
from accounting.rebuild.fold import Added, Fold, Mark, Start, TableName
from accounting.rebuild.hours import Hours
from accounting.rebuild.log import Log
from accounting.rebuild.marks import AwaitedMarks
from accounting.rebuild.old_layout import OldRequest, OldRequests
from accounting.rebuild.records import LogRecord
from accounting.rebuild.rows import Row, known_in, row_of
from schemas.codec import MalformedRecord, decode_as
from schemas.events import KeptRequest, RecordRef, RequestFinished
from schemas.times import Times
from schemas.topics import OUTCOMES

__all__ = [
    "Count",
    "Folded",
    "FoldedHours",
    "HourStretch",
    "LooksUp",
    "OutcomeStretch",
    "fold_hours",
    "fold_outcomes",
]

_LONG: Final = 20_000
"""Records that take longer than it takes to start a process."""

Count: TypeAlias = Callable[[int], Awaitable[None]]
"""Hears how many records more were read."""


class LooksUp(Protocol):
    """Asks the log which rows are copies of earlier ones."""

    async def copies(self, partition: int, rows: Sequence[Row]) -> set[int]:
        """Their offsets."""


class OutcomeStretch(msgspec.Struct, frozen=True, kw_only=True, tag="outcomes"):
    """The outcomes in [begin, end) of a shard, for balances, marks and kept requests."""

    shard: int
    begin: int
    end: int
    start: Start
    clock_ms: int
    """The log's clock at its end: marks that are due by then are none."""
    times: Times
    before: OldRequests = {}
    """What a version of another layout knew of its requests, and did not write into the log."""

    @property
    def is_long(self) -> bool:
        """Whether it is worth a process of its own."""
        return self.end - self.begin > _LONG


class HourStretch(msgspec.Struct, frozen=True, kw_only=True, tag="hours"):
    """The outcomes in [begin, end) of a shard, for usage hours."""

    shard: int
    begin: int
    end: int
    start: Start
    """Up to where each hour stands."""
    copies: frozenset[int]
    """Offsets of outcomes that do not count."""

    @property
    def is_long(self) -> bool:
        """Whether it is worth a process of its own."""
        return self.end - self.begin > _LONG


class Folded(msgspec.Struct, kw_only=True, tag="folded"):
    """What the outcomes of a stretch come to."""

    balances: dict[TableName, Added] = {}
    rows: int = 0
    """How many of them were added."""
    copies: frozenset[int] = frozenset()
    """Offsets of those above the checkpoint that do not count."""
    seen: frozenset[str] = frozenset()
    """Requests that have an outcome."""
    kept: list[KeptRequest] = []
    """Ended requests that are found by a key or as a job."""
    written_late: list[KeptRequest] = []
    """Of those the ones that the log lacks, because of the version that wrote it."""
    marks: list[bytes] = []
    """As they are sent, in the order of the log."""
    awaited: bytes = b""
    """The filter of the requests that wait for their marks."""


class FoldedHours(msgspec.Struct, kw_only=True, tag="folded hours"):
    """What the outcomes of a stretch add to usage hours."""

    cells: dict[TableName, dict[str, int]]
    changed: dict[TableName, int]
    """The last outcome that changed each."""


class _Outcomes:
    """Takes the outcomes of a stretch."""

    def __init__(self, stretch: OutcomeStretch) -> None:
        self._of = stretch
        self.fold = Fold(stretch.start)
        self.marks = AwaitedMarks()
        self.kept: list[KeptRequest] = []
        self.written_late: list[KeptRequest] = []

    def take(self, page: Sequence[LogRecord]) -> None:
        """Take the next records of the partition."""
        kept_ms, marks = self._of.times.ledger.terminal_kept_ms, list[Mark]()
        for record in page:
            row = self._row_in(record)
            mark = None if row is None else self.fold.take(row, kept_ms)
            if mark is not None and mark.due_ms > self._of.clock_ms:
                marks.append(mark)
        self.marks.note(marks)

    def _row_in(self, record: LogRecord) -> Row | None:
        """The row; ``None`` for what accounting dead-letters."""
        offset, at_ms = record.offset, record.timestamp
        if offset <= self._of.start.checkpoint:
            known = known_in(dict(record.headers))
            if known is not None and record.key is not None:
                org = record.key.decode()
                # Whether it ran matters to keys alone, and of those that did not run none comes back.
                return Row(offset, at_ms, org, known.req, None, known.deadline_ms, ran=True)
        try:
            row, is_kept = row_of(record.value, offset, at_ms)
            before = None if row.ref else self._of.before.get((row.org, row.req))
            if is_kept or before:
                self._keep(record, before)
        except MalformedRecord:
            return None
        return row

    def _keep(self, record: LogRecord, before: OldRequest | None) -> None:
        place = RecordRef(topic=OUTCOMES, partition=self._of.shard, offset=record.offset)
        event = decode_as(record.value, RequestFinished)
        known = event if before is None else before.completes(event)
        kept = kept_of(known, place, record.timestamp, self._of.times.ledger)
        self.kept += kept
        if known != event:
            self.written_late += kept

    def folded(self) -> Folded:
        """What they come to."""
        fold = self.fold
        return Folded(
            balances=fold.balances,
            rows=fold.rows,
            copies=frozenset(fold.copies),
            seen=frozenset(each for each in fold.seen if isinstance(each, str)),
            kept=self.kept,
            written_late=self.written_late,
            marks=self.marks.pieces,
            awaited=self.marks.filter(),
        )


async def fold_outcomes(
    stretch: OutcomeStretch, log: Log, earlier: LooksUp, count: Count
) -> Folded:
    """Fold a stretch for what limits depend on. Raises ``Transient``."""
    outcomes = _Outcomes(stretch)
    partition = TopicPartition(OUTCOMES, stretch.shard)
    async for page in log.pages(partition, stretch.begin, stretch.end):
        outcomes.take(page)
        await count(len(page))
    if outcomes.fold.aside:
        # Only the log can say of these whether they are copies of what was not read.
        outcomes.fold.settle(await earlier.copies(stretch.shard, outcomes.fold.aside))
    return outcomes.folded()


async def fold_hours(stretch: HourStretch, log: Log, count: Count) -> FoldedHours:
    """Fold the usage hours of a stretch. Raises ``Transient``."""
    partition, hours = TopicPartition(OUTCOMES, stretch.shard), Hours(stretch.start, stretch.copies)
    async for page in log.pages(partition, stretch.begin, stretch.end):
        for record in page:
            with suppress(MalformedRecord):  # Accounting dead-letters it.
                hours.take(record.value, record.offset)
        await count(len(page))
    return FoldedHours(cells=hours.cells, changed=hours.changed)
