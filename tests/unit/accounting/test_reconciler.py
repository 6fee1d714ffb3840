"""What is settled and not in the log is produced again, by the owner of its partition, once it is sure."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest

from accounting.positions import Positions
from accounting.reconciler import Reconciler, Watermarks, is_missing
from schemas.codec import encode
from schemas.events import RequestFinished
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.shards import Shards
from schemas.outgoing import Outgoing
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL
from tests.support.events import NOW_MS, attempt, finished

MARGIN_MS = FULL.unbooked_margin_ms
OUTCOME: RequestFinished = finished([attempt()], [])
MINE, THEIRS = "acme", "theirs"
SHARDS = Shards(4)
OWNED = SHARDS.of(MINE)


@pytest.mark.parametrize(
    ("readings", "passed_ms"),
    [
        ([(5, 5)], 100),
        ([(4, 5)], None),
        ([(4, 5), (5, 9)], 100),
        ([(4, 5), (4, 9), (6, 9)], 100),
        ([(4, 5), (5, 9), (8, 9)], 100),
        ([(4, 5), (5, 9), (9, 12)], 101),
    ],
    ids=["done", "behind", "caught up", "late", "behind again", "goes on"],
)
def test_a_time_is_passed_once_all_that_was_appended_before_it_is_booked(
    readings: list[tuple[int, int]], passed_ms: int | None
) -> None:
    """However much is appended meanwhile."""
    marks = Watermarks()
    for at_ms, (done, end) in enumerate(readings, start=100):
        marks.note({3: Positions(done, 0, end)}, at_ms)

    assert marks.passed_ms.get(3) == passed_ms


@pytest.mark.parametrize(
    ("produced_ms", "passed_ms", "missing"),
    [
        (0, NOW_MS + MARGIN_MS, True),
        (0, NOW_MS + MARGIN_MS - 1, False),
        (NOW_MS + 1, NOW_MS + MARGIN_MS, False),
    ],
    ids=["a margin later", "too early", "produced again since"],
)
def test_an_outcome_is_missing_a_margin_after_it_was_due(
    produced_ms: int, passed_ms: int, missing: bool
) -> None:
    """By the time up to which its partition is booked, however long accounting was away."""
    entry = answers.UnbookedAttempt(org=MINE, req="r", finished_ms=NOW_MS)

    assert is_missing(entry, produced_ms, passed_ms, MARGIN_MS) is missing


def _outcome_of(request_id: str) -> bytes:
    return encode(msgspec.structs.replace(OUTCOME, request_id=request_id))


@dataclass
class Ledger:
    """Has finished requests of two organizations, in shards of their own; shards may be closed."""

    entries: list[answers.UnbookedAttempt]
    closed: frozenset[int] = frozenset()
    shards: Shards = SHARDS

    async def unbooked(self, shard: int, document: documents.ListUnbooked) -> answers.Unbooked:
        if shard in self.closed:
            raise LedgerNotReady("being rebuilt")
        listed = [e for e in self.entries if self.shards.of(e.org) == shard]
        due = [e for e in listed if e.finished_ms <= document.until_ms]
        return answers.Unbooked(entries=tuple(due[document.skip : document.skip + document.limit]))

    async def look(self, document: documents.Look) -> answers.Look:
        return answers.Look(state="FINISHED", outcome=_outcome_of(document.req))


@dataclass
class Log:
    """Takes records. It is booked to its end."""

    records: list[Outgoing] = field(default_factory=list)

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        self.records += records

    async def read(self, partitions: Collection[int]) -> Mapping[int, Positions]:
        return dict.fromkeys(partitions, Positions(7, 0, 7))


@dataclass
class StandingClock(Clock):
    """Moves when it is told to."""

    at_ms: int = NOW_MS

    def now_ms(self) -> int:
        return self.at_ms


def _reconciler(
    ledger: Ledger, log: Log, clock: Clock, owned: frozenset[int] = frozenset({OWNED})
) -> Reconciler:
    return Reconciler(
        ledger=cast("Any", ledger),
        producer=cast("Any", log),
        positions=cast("Any", log),
        owned=lambda: owned,
        clock=clock,
        metrics=Metrics(),
        times=FULL,
    )


async def test_what_is_missing_of_owned_partitions_is_produced_once_as_it_was() -> None:
    """The same bytes, however old; again only if that is lost as well."""
    ledger = Ledger(
        [
            answers.UnbookedAttempt(org=MINE, req="old", finished_ms=NOW_MS - 10**9),
            answers.UnbookedAttempt(org=THEIRS, req="theirs", finished_ms=NOW_MS - 10**9),
            answers.UnbookedAttempt(org=MINE, req="new", finished_ms=NOW_MS),
        ]
    )
    log, clock = Log(), StandingClock()
    reconciler = _reconciler(ledger, log, clock)

    await reconciler.reconcile()
    await reconciler.reconcile()
    assert [(r.key, r.value) for r in log.records] == [(MINE.encode(), _outcome_of("old"))]
    assert dict(log.records[0].headers)["request_id"] == b"old"
    clock.at_ms += MARGIN_MS
    await reconciler.reconcile()
    await reconciler.reconcile()
    assert [dict(r.headers)["request_id"] for r in log.records] == [b"old", b"old", b"new"]


async def test_a_shard_that_is_closed_keeps_no_other_from_being_repaired() -> None:
    """It is told when it is open again."""
    entries = [
        answers.UnbookedAttempt(org=org, req=org, finished_ms=NOW_MS - 10**9)
        for org in (MINE, THEIRS)
    ]
    ledger = Ledger(entries, closed=frozenset({SHARDS.of(THEIRS)}))
    log = Log()
    await _reconciler(ledger, log, StandingClock(), frozenset(SHARDS)).reconcile()

    assert [dict(r.headers)["request_id"] for r in log.records] == [MINE.encode()]


async def test_nothing_is_asked_of_the_broker_while_nothing_waits() -> None:
    """A round costs one call of the ledger for each shard that is owned."""
    reconciler = _reconciler(Ledger([]), Log(), StandingClock())
    reconciler.positions = cast("Any", None)
    async with asyncio.timeout(1):
        await reconciler.reconcile()
