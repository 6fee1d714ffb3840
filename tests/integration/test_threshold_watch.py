"""Thresholds on a real store: told once by id, whoever dies when.

The oracle is the list of what was booked, and a sum of this test's own.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import pytest_asyncio

from accounting.booking import Entry
from accounting.threshold_watch import ThresholdWatch
from schemas.codec import decode_as
from schemas.config_state import Snapshot
from schemas.entities import Budget, Limits, Organization, Quota
from schemas.events import AuditRecorded
from schemas.ledger import documents
from schemas.outgoing import Outgoing
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store
from tests.support.events import NOW_MS
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD

COST, TOKENS = "b:org/nano_usd:2026-11", "b:org/tokens:2026-11"
USD = 1_000_000_000
DEADLINE_S = 10**9
BOTH = Limits(budgets=(Budget("1", "month"),), quotas=(Quota(1_000, "tokens", "month"),))


class KilledError(Exception):
    """The process ends here."""


@dataclass
class AuditTopic:
    """What was acknowledged; ``dies`` says after how many deliveries its producer is killed, before or after the broker has it."""

    events: list[AuditRecorded] = field(default_factory=list)
    dies: tuple[int, str] | None = None

    async def deliver(self, records: Sequence[Outgoing], _: float) -> None:
        left, when = self.dies or (1, "")
        self.dies = (left - 1, when) if when else None
        if when == "before" and left <= 0:
            self.dies = None
            raise KilledError
        self.events += [decode_as(record.value, AuditRecorded) for record in records]
        if when == "after" and left <= 0:
            self.dies = None
            raise KilledError

    @property
    def ids(self) -> list[str]:
        return [event.audit_id for event in self.events]


@pytest_asyncio.fixture
async def store(server: LedgerServer) -> AsyncIterator[Store]:
    """One shard, empty and whole."""
    opened = ledger_store(server.url)
    await opened.start()
    await opened.call("FLUSHALL")
    await opened.call("HSET", META_KEY, "epoch", "1", "ready", "1", "complete", "1")
    yield opened
    await opened.stop()


@dataclass
class Scene:
    """One partition, its topic of audit events, and the process that has it now."""

    store: Store
    topic: AuditTopic = field(default_factory=AuditTopic)
    limits: Limits = BOTH
    config_offset: int = 1
    kills: int = 0
    offset: int = 0
    watch: ThresholdWatch = field(init=False)
    ledger: LedgerClient = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = LedgerClient(self.store, ONE_SHARD)
        self.restart()

    def restart(self) -> None:
        """Another process, which knows nothing."""
        self.watch = ThresholdWatch(
            ledger=self.ledger,
            store=self.store,
            producer=cast("Any", self.topic),
            config=lambda: Snapshot(
                offset=self.config_offset, organizations={"acme": Organization(limits=self.limits)}
            ),
            owned=lambda: frozenset({SHARD}),
            metrics=Metrics(),
            clock=Clock(),
            percents=(50, 80, 100),
        )

    def row(self, cost: int, tokens: int) -> documents.OutcomeRow:
        """The next outcome of the partition."""
        self.offset += 1
        return documents.OutcomeRow(
            offset=self.offset,
            at_ms=NOW_MS,
            ran=True,
            req=f"r{self.offset}",
            deadline_ms=NOW_MS + 60_000,
            bookings=(
                documents.Booking(key=COST, unit="nano_usd", amount=cost),
                documents.Booking(key=TOKENS, unit="tokens", amount=tokens),
            ),
        )

    async def handle(self, rows: Sequence[documents.OutcomeRow]) -> None:
        """As accounting does, again from the first of the rows after each kill."""
        while True:
            self.watch.took(SHARD, rows[0].offset, rows[-1].offset)
            document = documents.Book(org="acme", partition=SHARD, rows=tuple(rows))
            answer = await self.ledger.book(document)
            entries = [Entry("acme", row, ()) for row in rows]
            fates = list(zip(entries, answer.rows, strict=True))
            try:
                await self.watch.booked(SHARD, "acme", fates, NOW_MS, DEADLINE_S)
            except KilledError:
                self.kills += 1
                self.restart()
            else:
                return


def expected(sums: dict[str, list[int]], limits: dict[str, int]) -> set[str]:
    """The ids, from every total that there was."""
    return {
        f"threshold:acme|{key}:{limits[key]}:{percent}"
        for key, totals in sums.items()
        for percent in (50, 80, 100)
        if any(total * 100 >= percent * limits[key] for total in totals)
    }


@pytest.mark.parametrize("seed", range(12))
async def test_each_is_told_once_by_id_whoever_is_killed_and_whatever_is_corrected(
    store: Store, seed: int
) -> None:
    """Random batches with corrections downwards, kills before and after the broker has the event, and restarts between."""
    chance = random.Random(seed)
    scene = Scene(store)
    sums: dict[str, list[int]] = {COST: [0], TOKENS: [0]}
    for _ in range(60):
        if chance.random() < 0.4:
            scene.topic.dies = (0, chance.choice(("before", "after")))
        if chance.random() < 0.2:
            scene.restart()
        rows = []
        for _ in range(chance.randint(1, 4)):
            cost, tokens = chance.randint(-10, 30) * USD // 1_000, chance.randint(-5, 12)
            rows.append(scene.row(cost, tokens))
        await scene.handle(rows)
        # The total that counts is the one that the batch came to.
        sums[COST].append(sums[COST][-1] + sum(row.bookings[0].amount for row in rows))
        sums[TOKENS].append(sums[TOKENS][-1] + sum(row.bookings[1].amount for row in rows))

    assert set(scene.topic.ids) == expected(sums, {COST: USD, TOKENS: 1_000})
    assert scene.kills


async def test_without_a_kill_each_is_produced_exactly_once_also_by_a_process_that_comes_later(
    store: Store,
) -> None:
    """The marks in the ledger keep a restarted process from telling what was told."""
    scene = Scene(store)
    for _ in range(11):
        await scene.handle([scene.row(USD // 10, 1)])
        scene.restart()

    assert scene.topic.ids == [
        f"threshold:acme|{COST}:{USD}:{percent}" for percent in (50, 80, 100)
    ]
    usages = [json.loads(event.detail)["usage"] for event in scene.topic.events]
    assert usages == [USD * 5 // 10, USD * 8 // 10, USD]


async def test_outcomes_that_another_process_booked_in_between_count(store: Store) -> None:
    """The partition went away and came back: what this process remembers of it is void."""
    mine, other = Scene(store), Scene(store)
    other.topic = mine.topic
    other.restart()
    await mine.handle([mine.row(USD // 10, 1)])
    other.offset = mine.offset
    await other.handle([other.row(USD * 3 // 10, 1)])
    mine.offset = other.offset
    await mine.handle([mine.row(USD // 10, 1)])

    assert mine.topic.ids == [f"threshold:acme|{COST}:{USD}:50"]


async def test_a_limit_that_is_lowered_below_what_was_spent_is_told_of_without_another_outcome(
    store: Store,
) -> None:
    """Requests are refused from then on, so none may come."""
    scene = Scene(store)
    await scene.handle([scene.row(USD // 10, 1)])
    scene.limits, scene.config_offset = Limits(budgets=(Budget("0.125", "month"),)), 2

    await scene.watch._look()
    await scene.watch._look()

    assert scene.topic.ids == [
        f"threshold:acme|{COST}:{USD // 8}:{percent}" for percent in (50, 80)
    ]


async def test_a_limit_that_is_new_is_compared_with_what_was_spent_before_it(store: Store) -> None:
    """What nobody limited was summed up in the ledger all the same."""
    scene = Scene(store, limits=Limits())
    await scene.handle([scene.row(USD // 10, 1)])
    scene.limits, scene.config_offset = Limits(budgets=(Budget("0.1", "month"),)), 2

    await scene.watch._look()

    assert scene.topic.ids == [f"threshold:acme|{COST}:{USD // 10}:{p}" for p in (50, 80, 100)]


async def test_outcomes_that_a_rebuild_has_folded_already_are_not_counted_twice(
    store: Store,
) -> None:
    """They are handed out one after the other all the same, and the first look had all of them in its sum."""
    scene = Scene(store)
    rows = [scene.row(USD // 10, 1) for _ in range(4)]
    await scene.ledger.book(documents.Book(org="acme", partition=SHARD, rows=tuple(rows)))

    for row in rows:
        await scene.handle([row])

    assert scene.topic.ids == []
