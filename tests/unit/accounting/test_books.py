"""Batches of outcomes are booked in order, and what only the log can decide waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from accounting.booking import Place
from accounting.books import Books
from accounting.earlier import Earlier, EarlierRecords, LogUnreadable
from accounting.tables_log import TablesLog
from schemas.codec import encode
from schemas.events import RecordRef
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerNotReady
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL
from schemas.written_off import UNKNOWN_BACKEND
from tests.support.events import NOW_MS, attempt, finished
from tests.support.thresholds import watching_nothing


@dataclass
class ForgetfulLedger:
    """Decides rows until one comes of which it has no mark, as `tg1_book` does."""

    unsure_at: int
    asked: list[documents.Book] = field(default_factory=list)

    async def book(self, document: documents.Book) -> answers.Booked:
        self.asked.append(document)
        fates: list[answers.RowFate] = []
        for row in document.rows:
            if row.offset == self.unsure_at and row.is_first is None:
                break
            fates.append("DUPLICATE" if row.is_first is False else "BOOKED")
        return answers.Booked(rows=tuple(fates), offset=0)


@dataclass
class Log:
    """Knows which offsets are copies; the broker is away at first."""

    copied: set[int]
    failures: int = 1

    async def copies(self, partition: int, rows: Sequence[documents.OutcomeRow]) -> set[int]:
        if self.failures:
            self.failures -= 1
            raise LogUnreadable("away")
        return self.copied & {row.offset for row in rows}

    async def first_of(self, partition: int, row: documents.OutcomeRow) -> Earlier | None:
        guess = msgspec.structs.replace(attempt(), backend=UNKNOWN_BACKEND)
        place = RecordRef(topic="inference.outcomes.v1", partition=partition, offset=0)
        return Earlier(finished([guess], [], request_id=row.req, fence=9), place)


@dataclass
class Lines:
    """Takes usage lines."""

    ids: list[str] = field(default_factory=list)

    async def deliver(self, records: Sequence[Any], deadline_s: float, *_: object) -> None:
        self.ids += [dict(record.headers)["ce_id"].decode() for record in records]


@dataclass(frozen=True)
class Message:
    """What is fetched."""

    offset: int
    value: bytes
    topic: str = "inference.outcomes.v1"
    partition: int = 0
    timestamp: int = NOW_MS
    key: bytes = b"acme"
    headers: tuple[tuple[str, bytes], ...] = ()


def _books(ledger: object, lines: Lines, log: object) -> Books:
    return Books(
        ledger=cast("Any", ledger),
        producer=cast("Any", lines),
        dead_letters=cast("Any", None),
        metrics=Metrics(),
        clock=Clock(),
        tables=TablesLog(cast("Any", lines)),
        earlier=cast("EarlierRecords", log),
        times=FULL.ledger,
        thresholds=watching_nothing(),
    )


@dataclass
class ClosedShard:
    """Is being rebuilt until it is opened."""

    is_open: bool = False
    refused: asyncio.Event = field(default_factory=asyncio.Event)

    async def book(self, document: documents.Book) -> answers.Booked:
        if not self.is_open:
            self.refused.set()
            raise LedgerNotReady("rebuilding")
        fates: list[answers.RowFate] = ["BOOKED" for _ in document.rows]
        return answers.Booked(rows=tuple(fates), offset=0)


async def test_a_partition_waits_for_its_shard_and_says_so() -> None:
    """However long that takes; its record goes only after its lines, and the cause goes with it."""
    done: list[int] = []
    record = Record(
        Message(0, encode(finished([attempt()], [], request_id="r0"))),
        1,
        lambda record: done.append(record.offset),
        lambda *_: None,
    )
    shard, lines = ClosedShard(), Lines()
    books = _books(shard, lines, Log(copied=set()))
    booking = asyncio.create_task(books.handle([record]))
    await shard.refused.wait()
    await asyncio.sleep(0)
    waited, lines_then, done_then = dict(books.waits), list(lines.ids), list(done)
    shard.is_open = True
    await booking

    assert waited == {("inference.outcomes.v1", 0): "LedgerNotReady: rebuilding"}
    assert (lines_then, done_then) == ([], [])
    assert (lines.ids, done) == (["r0:1:0"], [0])
    assert not books.waits


async def test_what_only_the_log_can_decide_is_booked_by_its_word() -> None:
    """In order, each once, also when the log cannot be read at first."""
    done: list[int] = []
    batch = [
        Record(
            Message(n, encode(finished([attempt()], [], request_id=f"r{n}"))),
            1,
            lambda record: done.append(record.offset),
            lambda *_: None,
        )
        for n in range(4)
    ]
    ledger, lines = ForgetfulLedger(unsure_at=1), Lines()
    books = _books(ledger, lines, Log(copied={1, 3}))

    await books.handle(batch)

    assert lines.ids == ["r0:1:0", "r2:1:0"]
    assert done == [0, 1, 2, 3]
    asked = [[row.offset for row in document.rows] for document in ledger.asked]
    assert asked == [[0, 1, 2, 3], [1, 2, 3]]


async def test_a_batch_that_is_booked_says_up_to_where_its_partition_is() -> None:
    """Only then: until it is, a checkpoint must not pass it."""
    ledger, lines = ClosedShard(), Lines()
    books = _books(ledger, lines, Log(set()))
    batch = [
        Record(
            Message(n, encode(finished([attempt()], [], request_id=f"r{n}"))),
            1,
            lambda _: None,
            lambda *_: None,
        )
        for n in (7, 8)
    ]
    booking = asyncio.create_task(books.handle(batch))
    await asyncio.wait_for(ledger.refused.wait(), 5)
    assert books.booked == {}

    ledger.is_open = True
    await asyncio.wait_for(booking, 5)

    assert books.booked == {0: Place(8, NOW_MS)}


async def test_what_a_keyed_request_is_found_by_is_in_the_log_before_its_offset_goes() -> None:
    """And the ledger knows in the same call when the log may forget it."""
    done: list[int] = []
    found_by = {"idempotency_hash": "ab" * 32, "fingerprint": "cd" * 32}
    record = Record(
        Message(4, encode(finished([attempt()], [], **found_by))),
        1,
        lambda record: done.append(len(lines.ids)),
        lambda *_: None,
    )
    ledger, lines = ForgetfulLedger(unsure_at=-1), Lines()

    await _books(ledger, lines, Log(set())).handle([record])

    assert lines.ids[1:] == [f"acme|k:{'ab' * 32}@4"]
    assert done == [2]
    (kept,) = ledger.asked[0].rows[0].kept
    assert kept.key == f"acme|k:{'ab' * 32}"


async def test_an_outcome_that_came_too_late_is_corrected_before_its_offset_goes() -> None:
    """Nobody settled it, and another one was booked; a copy of one that was settled changes nothing."""
    done: list[tuple[int, list[str]]] = []
    batch = [
        Record(
            Message(n, encode(finished([attempt()], [], request_id=f"r{n}", unsettled=n == 1))),
            1,
            lambda record: done.append((record.offset, list(lines.ids))),
            lambda *_: None,
        )
        for n in (1, 2)
    ]
    ledger, lines = Copies(), Lines()
    await _books(ledger, lines, Log(set())).handle(batch)

    assert done == [(1, ["r1:1:101", "r1:1:102"]), (2, ["r1:1:101", "r1:1:102"])]


class Copies:
    """Has booked another outcome of each request."""

    async def book(self, document: documents.Book) -> answers.Booked:
        fates: list[answers.RowFate] = ["DUPLICATE" for _ in document.rows]
        return answers.Booked(rows=tuple(fates), offset=2)
