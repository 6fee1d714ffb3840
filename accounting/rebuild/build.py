"""The rebuild of one shard: its steps against ledger and log, each of which may be killed or repeated.

Whoever rebuilds may be overtaken by a later owner at any step; ``Overtaken`` ends it then, and nothing that it
wrote stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import TopicPartition

from accounting.booking import outcome_again
from accounting.rebuild.chunks import balances_of, chunks
from accounting.rebuild.folders import Folders
from accounting.rebuild.log import Log
from accounting.rebuild.old_layout import OldLayout, OldRequests
from accounting.rebuild.snapshots import ShardSnapshots
from accounting.rebuild.stretches import Folded, FoldedHours, HourStretch, OutcomeStretch
from schemas.codec import MalformedRecord
from schemas.failures import Transient
from schemas.ledger import answers, calls, documents, rebuild_calls
from schemas.ledger.errors import LedgerUnavailable
from schemas.ledger.rebuild_calls import RestoredRate
from schemas.outgoing import kept_record
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.retry import retry_until
from schemas.times import MINUTE_MS, Times
from schemas.topics import OUTCOMES, USAGE_TABLES

__all__ = ["Overtaken", "Parts", "ShardBuild"]

_WRITE_WITHIN_S: Final = 10.0
"""Shards that are rebuilt together wait for each other so long at most."""
_SALVAGED_PER_CALL: Final = 16
_TOLD_EVERY: Final = 20_000
_BALANCES_PER_CALL: Final = 500
_ATTEMPTS_PER_CALL: Final = 200
_WRITTEN_AT_ONCE: Final = 500
_SKEW_MS: Final = 5 * MINUTE_MS
"""Ids carry the clock of an ingress, records that of a broker."""


class Overtaken(Transient):
    """A later rebuild of the shard has begun, or its store went away: this one is void."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What rebuilds share."""

    ledger: LedgerClient
    producer: Producer
    folders: Folders
    times: Times
    old: OldLayout


@dataclass(slots=True)
class ShardBuild:
    """One rebuild of one shard."""

    shard: int
    epoch: int
    building: str
    """Its name: epoch and token."""
    cause: str
    parts: Parts
    until: Mapping[str, int] = field(default_factory=dict)
    """By organization the last outcome that is wanted; all, where none is said."""
    snapshots: ShardSnapshots = field(init=False)
    fold: Folded = field(default_factory=Folded)
    before: OldRequests = field(default_factory=dict)
    """What a version of another layout knew of its requests, and did not write into the log."""
    reached: int = -1
    """The last outcome that is folded."""
    first: int = 0
    """The first outcome above the checkpoint."""
    clock_ms: int = 0
    """The log's clock there."""
    is_open: bool = False
    """Whether the shard decides again."""
    step: str = "begins"
    records: int = 0
    """How many were read of the log."""

    def __post_init__(self) -> None:
        """Nothing is known yet."""
        self.snapshots = ShardSnapshots(self.shard)

    async def begin(self) -> None:
        """Close the shard under the new epoch."""
        await self.do(rebuild_calls.begin(self.shard, self.epoch, self.building))

    async def salvage(self) -> None:
        """Produce what is finished and not booked; a copy of what the log has is skipped when it is booked."""
        await self.at("salvages")
        if await self.parts.old.exists():
            await self._salvage_old_layout()
        skip = 0
        while True:
            page = await self.do(
                rebuild_calls.salvage(self.shard, self.building, skip, _SALVAGED_PER_CALL)
            )
            await self._produce(page.outcomes)
            if not page.more:
                return
            skip += _SALVAGED_PER_CALL

    async def _salvage_old_layout(self) -> None:
        async for outcomes in self.parts.old.outcomes(self.shard):
            await self._produce(outcomes)
        self.before = await self.parts.old.requests(self.shard)

    async def _produce(self, outcomes: Iterable[bytes]) -> None:
        records = []
        for outcome in outcomes:
            try:
                records.append(outcome_again(outcome))
            except MalformedRecord:
                continue  # A damaged store; what it had is in the log, or was never acknowledged.
        deadline_s = asyncio.get_running_loop().time() + _WRITE_WITHIN_S
        await self.parts.producer.deliver(records, deadline_s)

    async def unlink(self) -> None:
        """Empty the shard."""
        await self.at("empties")
        cursor = "0"
        while True:
            done = await self.do(rebuild_calls.unlink(self.shard, self.building, cursor))
            cursor = done.cursor
            if cursor == "0":
                return

    async def read_snapshots(self, log: Log, shards: int) -> None:
        """Read what was published of the shard; versions before this one put it into any partition."""
        await self.at("reads snapshots")
        await self._read_tables(log, self.shard)
        if self.snapshots.checkpoint is None:
            for number in range(shards):
                if number != self.shard:
                    await self._read_tables(log, number)

    async def _read_tables(self, log: Log, number: int) -> None:
        partition = TopicPartition(USAGE_TABLES, number)
        at = (await log.bounds([partition]))[partition]
        async for page in log.pages(partition, at.begin, at.end):
            for record in page:
                try:
                    self.snapshots.take(record, number)
                except (MalformedRecord, ValueError):
                    continue  # None of ours; what we wrote ourselves can be read.
            await self._count(len(page))

    async def _count(self, records: int) -> None:
        before, self.records = self.records, self.records + records
        if self.records // _TOLD_EVERY > before // _TOLD_EVERY:
            await self.tell()

    async def fold_outcomes(self, log: Log) -> None:
        """Fold what was appended since."""
        await self.at("folds outcomes")
        partition = TopicPartition(OUTCOMES, self.shard)
        at = (await log.bounds([partition]))[partition]
        self.reached = at.end - 1
        if at.begin >= at.end:
            return
        self.clock_ms = await _appended_ms(log, partition, at.end - 1)
        first = max(at.begin, min(self.snapshots.stands_for + 1, at.end - 1))
        since_ms = await _appended_ms(log, partition, first) - self._reach_ms()
        begin = min(first, await log.first_since(partition, since_ms, at.end))
        # Of what retention took nothing can be found, and nothing can be a copy of it.
        read_since_ms = 0 if begin <= at.begin else since_ms + _SKEW_MS
        start = self.snapshots.start(read_since_ms, self.until)
        self.first = max(at.begin, start.checkpoint + 1)
        stretch = OutcomeStretch(
            shard=self.shard,
            begin=begin,
            end=at.end,
            start=start,
            clock_ms=self.clock_ms,
            times=self.parts.times,
            before=self.before,
        )
        self.fold = await self.parts.folders.outcomes(stretch, log, self._count)

    def _reach_ms(self) -> int:
        """How long before the first outcome that is wanted reading begins: whatever may still be copied, or
        has a mark, was appended since."""
        kept_ms = self.parts.times.ledger.terminal_kept_ms
        return self.parts.times.deadline_max_ms + kept_ms + _SKEW_MS

    async def write_late(self) -> None:
        """Write into the log what a version before should have: ended requests that keys and lists of jobs find."""
        for piece in chunks(self.fold.written_late, _WRITTEN_AT_ONCE):
            deadline_s = asyncio.get_running_loop().time() + _WRITE_WITHIN_S
            await self.parts.producer.deliver([kept_record(each) for each in piece], deadline_s)

    async def fold_hours(self, log: Log) -> FoldedHours:
        """Fold the usage hours of the same outcomes. Raises ``Overtaken`` when retention took some since."""
        await self.at("folds usage hours")
        stretch = HourStretch(
            shard=self.shard,
            begin=self.first,
            end=self.reached + 1,
            start=self.snapshots.start_of_hours(),
            copies=self.fold.copies,
        )
        hours = await self.parts.folders.hours(stretch, log, self._go_on)
        partition = TopicPartition(OUTCOMES, self.shard)
        begin = (await log.bounds([partition]))[partition].begin
        if begin > self.first <= self.reached:
            raise Overtaken(f"shard {self.shard}: the log begins at {begin} by now")
        return hours

    async def _go_on(self, records: int) -> None:
        """They were counted when they were read for the first time."""

    async def restore(
        self, attempts: Sequence[documents.RestoredRequest], rates: Sequence[RestoredRate]
    ) -> None:
        """Write balances, open attempts and buckets."""
        await self.at("restores")
        oldest_ms = self.clock_ms - self.parts.times.ledger.table_kept_ms
        balances = balances_of(self.snapshots, self.fold.balances, oldest_ms)
        for piece in chunks(balances, _BALANCES_PER_CALL):
            await self.do(
                rebuild_calls.restore_balances(self.shard, self.building, self.reached, piece)
            )

        for held in chunks(attempts, _ATTEMPTS_PER_CALL):
            document = documents.Restore(building=self.building, attempts=held)
            await self.do(calls.restore(self.shard, document))
        for charged in chunks(rates, _BALANCES_PER_CALL):
            await self.do(rebuild_calls.restore_rates(self.shard, self.building, charged))

    async def open(self) -> None:
        """Let the shard decide again, but for requests whose marks are still to come."""
        await self.do(
            rebuild_calls.open_(
                self.shard, self.building, self.reached, self.clock_ms, self.fold.awaited
            )
        )
        self.is_open, self.step = True, "completes"

    async def at(self, step: str) -> None:
        """The rebuild has come to that step."""
        self.step = step
        await self.tell()

    async def tell(self) -> None:
        """Say how far it is, for people."""
        if self.building:
            note = rebuild_calls.note(self.shard, self.building, self.step, self.records)
            await self.do(note)

    async def do(self, call: Any) -> Any:
        """The answer of one step. Raises ``Overtaken``, and ``LedgerUnavailable`` when there is none."""
        deadline_s = asyncio.get_running_loop().time() + _WRITE_WITHIN_S

        async def once() -> Any:
            return await self.parts.ledger.run(call)

        answer = await retry_until(once, LedgerUnavailable, deadline_s)
        if isinstance(answer, answers.Stale):
            raise Overtaken(f"shard {self.shard}: {self.building} does not build it any more")
        return answer


async def _appended_ms(log: Log, partition: TopicPartition, offset: int) -> int:
    """When the first record at the offset or after it was appended."""
    at_ms = 0
    async for page in log.pages(partition, offset, offset + 1):
        at_ms = int(page[0].timestamp)
    return at_ms
