"""A replay as accounting: folds a range into shadow tables, and compares them with the live ones. Writes nothing that is live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition

from deploy.replay.checkpoint import Checkpoint
from deploy.replay.difference import difference_of
from deploy.replay.folding import fold_outcomes
from deploy.replay.live import LiveTables, StoredLedger, accounting_is_past
from deploy.replay.live_lines import LiveLines
from deploy.replay.origin import origin_in
from deploy.replay.pace import Pace
from deploy.replay.plan import Plan, Source, partitions_of
from deploy.replay.problem import ReplayProblem
from schemas.ledger.shards import Shards
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.cold_store import open_cold_store
from schemas.topics import OUTCOMES, TOPICS, USAGE_RECORDS

__all__ = ["AccountingReplay", "check_outcomes"]

_CATCHES_UP_WITHIN_S: Final = 30.0


def check_outcomes(topic: str) -> None:
    """Raises ``ReplayProblem`` for a topic that accounting does not read."""
    if topic != OUTCOMES and topic in {each.name for each in TOPICS}:
        raise ReplayProblem(
            f"accounting does not read {topic}",
            f"it books what stands in {OUTCOMES}",
            f"leave --topic away, or name a copy of {OUTCOMES}",
            is_usage=True,
        )


@dataclass(frozen=True, slots=True)
class AccountingReplay:
    """One such replay."""

    source: Source
    plan: Plan
    brokers: str
    ledger_url: str
    checkpoint: Checkpoint
    pace: Pace

    async def run(self) -> dict[str, Any]:
        """Fold and compare. Raises ``KafkaError``, ``Transient`` and ``Defect`` failures."""
        await fold_outcomes(self.source.log, self.brokers, self.plan, self.checkpoint, self.pace)
        span = await self._span()
        ends = {number: end for number, (_, end) in span.items()}
        notes = []
        if behind := await accounting_is_past(self.brokers, ends, _CATCHES_UP_WITHIN_S):
            notes.append(behind)
        shards = Shards(await partitions_of(self.brokers, OUTCOMES))
        async with open_cold_store(self.ledger_url) as store:
            tables = LiveTables(StoredLedger(store), shards, self.checkpoint, Clock().local_ms())
            await tables.read_hours()
            if self._has_all():
                await tables.read_periods(ends)
            else:
                self.checkpoint.file.execute("DELETE FROM period")
        # A line is appended before its outcome is committed, so those of all that the tables have are there then.
        highest = {number: offset + 1 for number, offset in tables.highest.items()}
        if behind := await accounting_is_past(self.brokers, highest, _CATCHES_UP_WITHIN_S):
            notes.append(behind)
        lines = LiveLines(self.checkpoint, self.plan.selection, span)
        await lines.read(self.source.log, await partitions_of(self.brokers, USAGE_RECORDS))
        found = difference_of(self.checkpoint, tables, lines)
        more = {
            "undecodable_lines": lines.undecodable_count,
            "undecodable_lines_named": lines.undecodable,
        }
        return found | more | {"notes": notes}

    def _has_all(self) -> bool:
        """Whether the range has whatever was ever booked: then totals of periods have to be equal, too."""
        is_whole = all(stretch.is_whole_log for stretch in self.plan.stretches)
        is_all = self.plan.selection.is_all and len(self.plan.stretches) == self.source.partitions
        return self.plan.topic == OUTCOMES and is_whole and is_all

    async def _span(self) -> dict[int, tuple[int, int]]:
        """By partition of outcomes, the offsets of the range; of a copy those that its records come from."""
        span: dict[int, tuple[int, int]] = {}
        for stretch in self.plan.stretches:
            if stretch.records == 0:
                continue
            first = await self._place(stretch.partition, stretch.begin)
            last = await self._place(stretch.partition, stretch.end - 1)
            span[first[0]] = first[1], last[1] + 1
        return span

    async def _place(self, number: int, offset: int) -> tuple[int, int]:
        """Partition and offset of a record at its origin."""
        partition = TopicPartition(self.plan.topic, number)
        if self.plan.topic != OUTCOMES:
            async for page in self.source.log.pages(partition, offset, offset + 1):
                for record in page:
                    if (origin := origin_in(record.headers)) is not None:
                        return origin.partition, origin.offset
            raise ReplayProblem(
                f"{self.plan.topic} is no copy of {OUTCOMES}",
                f"{self.plan.topic}-{number}@{offset} does not say where it stood there",
                "make a copy with tallygate replay run --as copy",
            )
        return number, offset
