"""The live usage lines beside a fold: each is one of the range, and then it has to say what the fold says, or lies outside of it.

What the tables have of a range alone is what they have, without the lines that lie outside. So any range can be compared with
them, also one that cuts an hour, and one that a filter has thinned out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from aiokafka import TopicPartition

from accounting.rebuild.log import Log
from accounting.rebuild.records import LogRecord
from deploy.replay.checkpoint import Checkpoint
from deploy.replay.selection import Selection
from deploy.replay.shadow import amounts_text, row_of
from schemas.codec import UNDECODABLE, decode_as
from schemas.events import UsageRecorded
from schemas.topics import USAGE_RECORDS
from schemas.usage import MEASURES, amounts_of, hour_of

__all__ = ["LiveLines"]

_EARLIER_MS: Final = 15 * 60_000
"""So long before an hour reading begins: the broker's clock may be behind that of who ended the attempt."""
_TAKE: Final = "INSERT INTO cell VALUES (?, ?, ?, ?, 0, ?) ON CONFLICT DO UPDATE SET live = live + excluded.live"
_REACHED: Final = "SELECT offset FROM reached WHERE org = ? AND hour = ?"
_DIFFERING_MAX: Final = 1_000
_UNDECODABLE_MAX: Final = 100


@dataclass(slots=True)
class LiveLines:
    """Takes live lines in the order of their log."""

    checkpoint: Checkpoint
    selection: Selection
    span: Mapping[int, tuple[int, int]]
    """By partition of outcomes, the offsets [begin, end) of the range."""
    differing: list[dict[str, object]] = field(default_factory=list)
    """The first lines that say something else than the fold does, by their ids."""
    count: int = 0
    """How many there are of those."""
    undecodable: list[str] = field(default_factory=list)
    """The first records of the usage log that are no lines, by their places."""
    undecodable_count: int = 0

    async def read(self, log: Log, partitions: int) -> None:
        """Read the usage log from the first hour that was touched to its end. Raises ``KafkaError`` and ``LogUnreadable``."""
        first = self.checkpoint.file.execute("SELECT MIN(hour) FROM cell").fetchone()[0]
        from_ms = 0 if first is None else _ms(first) - _EARLIER_MS
        for number in range(partitions):
            partition = TopicPartition(USAGE_RECORDS, number)
            at = (await log.bounds([partition]))[partition]
            begin = await log.first_since(partition, from_ms, at.end)
            async for page in log.pages(partition, begin, at.end):
                for record in page:
                    self.take(record, number)
        self._miss()

    def take(self, record: LogRecord, partition: int) -> None:
        """Take the next line."""
        try:
            line = decode_as(record.value, UsageRecorded)
        except UNDECODABLE as error:
            self.undecodable_count += 1
            if len(self.undecodable) < _UNDECODABLE_MAX:
                self.undecodable.append(f"{USAGE_RECORDS}-{partition}@{record.offset}: {error}")
            return
        folded = self.checkpoint.file.execute(
            "SELECT org, hour, row, amounts, is_met FROM line WHERE id = ?", (line.usage_id,)
        ).fetchone()
        if folded is not None:
            self._meet(line, folded)
        elif self._is_beside(line):
            self._take_out(line)
        else:
            self._differ(line.usage_id, line.org, "the fold has no such line", {})

    def _meet(self, line: UsageRecorded, folded: tuple[str, str, str, str, int]) -> None:
        hour, row, amounts = hour_of(line.finished_at_ms), row_of(line), amounts_text(line)
        self.checkpoint.file.execute("UPDATE line SET is_met = 1 WHERE id = ?", (line.usage_id,))
        if folded[:4] == (line.org, hour, row, amounts):
            return
        fields: dict[str, tuple[object, object]] = {
            name: (theirs, ours)
            for name, theirs, ours in zip(
                MEASURES,
                amounts_of(line, line.revision),
                map(int, folded[3].split(",")),
                strict=True,
            )
            if theirs != ours
        }
        if folded[1] != hour:
            fields["hour"] = (hour, folded[1])
        if folded[2] != row:
            fields["row"] = (row.replace("\t", " "), folded[2].replace("\t", " "))
        self._differ(line.usage_id, line.org, "it says something else", fields)

    def _is_beside(self, line: UsageRecorded) -> bool:
        """Whether the line is none of the range, or of what is wanted of it."""
        begin, end = self.span.get(line.outcome.partition, (0, 0))
        if not begin <= line.outcome.offset < end or not self.selection.wants_whose(line):
            return True
        found = self.checkpoint.file.execute("SELECT 1 FROM beside WHERE id = ?", (line.usage_id,))
        return found.fetchone() is not None

    def _take_out(self, line: UsageRecorded) -> None:
        """Without it the table has what the range says; of copies the first counts."""
        table, file = (line.org, hour_of(line.finished_at_ms)), self.checkpoint.file
        reached = file.execute(_REACHED, table).fetchone()
        if reached is None or line.outcome.offset > reached[0]:
            return  # Its table was not read, or before the line was booked.
        if self._is_new(line.usage_id):
            row, amounts = row_of(line), amounts_of(line, line.revision)
            file.executemany(
                _TAKE,
                [(*table, row, m, -n) for m, n in zip(MEASURES, amounts, strict=True) if n],
            )

    def _miss(self) -> None:
        """What the fold says and no live line does."""
        for usage_id, org in self.checkpoint.file.execute(
            "SELECT id, org FROM line WHERE NOT is_met ORDER BY 1"
        ):
            self._differ(usage_id, org, "the usage log has no such line", {})

    def _differ(
        self, usage_id: str, org: str, why: str, fields: Mapping[str, tuple[object, object]]
    ) -> None:
        if not self._is_new(f"{usage_id} differs"):
            return
        self.count += 1
        if len(self.differing) < _DIFFERING_MAX:
            told = {name: {"live": live, "fold": fold} for name, (live, fold) in fields.items()}
            self.differing.append({"usage_id": usage_id, "org": org, "why": why, "fields": told})

    def _is_new(self, name: str) -> bool:
        """Whether nothing of this name was taken before."""
        found = self.checkpoint.file.execute("INSERT OR IGNORE INTO taken VALUES (?)", (name,))
        return bool(found.rowcount)


def _ms(hour: str) -> int:
    moment = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000)
