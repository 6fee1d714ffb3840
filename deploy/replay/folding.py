"""Folds a range of outcomes through the handlers of accounting into shadow tables."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition

from accounting.booking import entry_of
from accounting.books import Books
from accounting.earlier import EarlierRecords
from accounting.rebuild.log import Log
from accounting.rebuild.rows import known_in
from deploy.replay.checkpoint import Checkpoint
from deploy.replay.origin import Placed, placed
from deploy.replay.pace import COMMIT_EVERY, Pace, read_plan
from deploy.replay.plan import Plan
from deploy.replay.ranges import Stretch
from deploy.replay.selection import Selection
from deploy.replay.shadow import NobodyWatches, ShadowGraveyard, ShadowLedger, ShadowLines
from schemas.codec import MalformedRecord, UnknownSchema, decode, unknown_schema
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL

__all__ = ["fold_outcomes"]

_LEAD_MS: Final = 30 * 60_000
"""So long before a range its reading begins: what may be copied in it, and ended before."""
_SKEW_MS: Final = 15 * 60_000
"""Ids carry the clock of an ingress, records that of a broker."""
_NO_GENERATION: Final = 0
_BOOKED_WITHIN_S: Final = 600.0
"""The books wait for the log as long as it takes; whoever replays is told instead, and goes on later."""


@dataclass(slots=True)
class _Fold:
    """A fold under way: the books, and the shadows that stand behind them."""

    checkpoint: Checkpoint
    ledger: ShadowLedger
    lines: ShadowLines
    books: Books
    selection: Selection

    @classmethod
    def create(cls, checkpoint: Checkpoint, brokers: str, selection: Selection) -> _Fold:
        """Nothing was folded yet."""
        ledger, lines = ShadowLedger(checkpoint, {}), ShadowLines(checkpoint)
        books = Books(
            ledger=ledger,
            producer=lines,
            dead_letters=ShadowGraveyard(checkpoint),
            metrics=Metrics(),
            clock=Clock(),
            tables=lines,
            earlier=EarlierRecords(brokers),
            times=FULL.ledger,
            thresholds=NobodyWatches(),
        )
        return cls(checkpoint, ledger, lines, books, selection)

    async def take(self, records: Sequence[Placed]) -> None:
        """Fold the next records of a partition. Raises ``Transient``, and ``TimeoutError`` while the log is away."""
        wanted = [each for each in records if self._is_wanted(each)]
        self.checkpoint.count("selected", len(wanted))
        if not wanted:
            return
        async with asyncio.timeout(_BOOKED_WITHIN_S):
            await self.books.handle([Record(each, _NO_GENERATION, _done, _held) for each in wanted])

    def _is_wanted(self, record: Placed) -> bool:
        if (newer := unknown_schema(record.value)) is not None:
            self.checkpoint.name_undecodable(record.partition, record.offset, str(newer))
            return False
        if self.selection.is_all:
            return True
        try:
            event = decode(record.value)
        except MalformedRecord:
            return True  # The books name it.
        if not self.selection.wants_whose(event):
            return False
        if self.selection.wants(event):
            return True
        if isinstance(event, RequestFinished | AttemptAdjusted):
            self._leave_out(event, record)
        return False

    def _leave_out(self, event: Any, record: Placed) -> None:
        """A status that is not wanted: its lines are none of the range, and its copies are copies all the same."""
        entry = entry_of(event, _ref(record), record.timestamp)
        self.ledger.see(event.org, entry.row.req, entry.row.ref, record.partition, record.offset)
        self.checkpoint.file.executemany(
            "INSERT OR IGNORE INTO beside VALUES (?)",
            [(line.usage_id,) for line in entry.lines],
        )

    def flush(self, places: dict[int, int]) -> None:
        """Keep what was folded, read up to these places."""
        self.ledger.flush()
        self.lines.flush()
        self.checkpoint.commit(places)


async def fold_outcomes(
    log: Log, brokers: str, plan: Plan, checkpoint: Checkpoint, pace: Pace
) -> None:
    """Fold what was not folded before. Raises ``KafkaError`` and ``Transient``; what is committed stays."""
    fold = _Fold.create(checkpoint, brokers, plan.selection)
    await _lead_in(log, plan, fold)
    places, uncommitted = checkpoint.places(), 0
    async for number, piece in read_plan(log, plan, checkpoint, pace):
        for records in _by_partition([placed(each, plan.topic, number) for each in piece]):
            await fold.take(records)
        places[number] = piece[-1].offset + 1
        uncommitted += len(piece)
        if uncommitted >= COMMIT_EVERY:
            fold.flush(places)
            uncommitted = 0
    fold.flush(places | {each.partition: each.end for each in plan.stretches})


def _by_partition(records: Sequence[Placed]) -> list[list[Placed]]:
    """Records as the books want them, of one partition each; a copy may hold those of several."""
    found: dict[int, list[Placed]] = {}
    for each in records:
        found.setdefault(each.partition, []).append(each)
    return list(found.values())


async def _lead_in(log: Log, plan: Plan, fold: _Fold) -> None:
    """Learn which requests ended shortly before the range, so that their copies in it do not count."""
    for stretch in plan.stretches:
        partition = TopicPartition(plan.topic, stretch.partition)
        first = await _first(log, stretch, plan.topic)
        if first is None:
            continue
        if first.topic != plan.topic:
            # What stood before a copied record is looked up where that stood.
            fold.ledger.known_since_ms[first.partition] = first.timestamp if first.offset else 0
            continue
        if stretch.begin <= (await log.bounds([partition]))[partition].begin:
            continue  # Of what retention took nothing can be found.
        since_ms = first.timestamp - _LEAD_MS
        begin = await log.first_since(partition, since_ms, stretch.begin)
        fold.ledger.known_since_ms[stretch.partition] = since_ms + _SKEW_MS
        async for page in log.pages(partition, begin, stretch.begin):
            for record in page:
                _see(fold, placed(record, plan.topic, stretch.partition))


def _see(fold: _Fold, record: Placed) -> None:
    known = known_in(dict(record.headers))
    if known is not None and record.key is not None:
        org = record.key.decode(errors="replace")
        fold.ledger.see(org, known.req, None, record.partition, record.offset)
        return
    try:
        event = decode(record.value)
    except (MalformedRecord, UnknownSchema):
        return
    if isinstance(event, RequestFinished | AttemptAdjusted):
        row = entry_of(event, _ref(record), record.timestamp).row
        fold.ledger.see(event.org, row.req, row.ref, record.partition, record.offset)


async def _first(log: Log, stretch: Stretch, topic: str) -> Placed | None:
    partition = TopicPartition(topic, stretch.partition)
    async for page in log.pages(partition, stretch.begin, min(stretch.begin + 1, stretch.end)):
        for record in page:
            return placed(record, topic, stretch.partition)
    return None


def _ref(record: Placed) -> RecordRef:
    return RecordRef(topic=record.topic, partition=record.partition, offset=record.offset)


def _done(_: Record) -> None:
    """No offset goes: a replay is in no group."""


def _held(_: Record, __: str) -> None:
    """What would be held was named before."""
