"""Shadow tables: what the books would say after a range alone. They stand in the checkpoint of the replay, and nowhere else.

They take the place of the ledger, of the usage log and of the dead letters, so that the books' own handlers run unchanged
and touch nothing that is real.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from accounting.booking import Entry
from deploy.replay.checkpoint import Checkpoint
from schemas.codec import decode_as
from schemas.events import UsageRecorded
from schemas.ids import made_at_ms
from schemas.ledger import answers, documents
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.consume.records import Record
from schemas.topics import OUTCOMES, USAGE_RECORDS
from schemas.usage import UsageRow, amounts_of, hour_of

__all__ = ["ShadowGraveyard", "ShadowLedger", "ShadowLines", "amounts_text", "row_of"]

_OFFSET_BITS: Final = 44
_ADD_CELL: Final = "INSERT INTO cell VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET fold = fold + excluded.fold"
_ADD_PERIOD: Final = (
    "INSERT INTO period VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE SET fold = fold + excluded.fold"
)


def row_of(line: UsageRecorded) -> str:
    """The row of a usage table that the line adds to."""
    return UsageRow.of(line.key_id, line.user, line.model, line.backend).encoded()


def amounts_text(line: UsageRecorded) -> str:
    """What the line adds, in the order of ``MEASURES``."""
    return ",".join(map(str, amounts_of(line, line.revision)))


@dataclass(slots=True)
class ShadowLedger:
    """Decides rows as ``tg1_book`` does, but knows of no hold: the first outcome of a request counts, and no other."""

    checkpoint: Checkpoint
    known_since_ms: dict[int, int]
    """By partition: of a request that was made before, an outcome may stand before what was read. 0: all was read."""
    _cells: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    _periods: dict[tuple[str, str], int] = field(default_factory=dict)
    _reached: dict[str, int] = field(default_factory=dict)
    """By organization, the last outcome that was booked."""

    async def book(self, document: documents.Book) -> answers.Booked:
        """The fate of each row; fewer than rows, where only the log can say whether the next is the first."""
        fates: list[answers.RowFate] = []
        known_since_ms = self.known_since_ms.get(document.partition, 0)
        for row in document.rows:
            is_known = self._is_known(document.org, row)
            if not is_known and row.is_first is None and made_at_ms(row.req) < known_since_ms:
                break
            if is_known or row.is_first is False:
                fates.append("DUPLICATE")
                self.checkpoint.count("duplicates")
            else:
                fates.append("BOOKED")
                self._add(document.org, row)
            self.see(document.org, row.req, row.ref, document.partition, row.offset)
            self._reached[document.org] = row.offset
        return answers.Booked(rows=tuple(fates), offset=-1)

    def see(self, org: str, req: str, ref: str | None, partition: int, offset: int) -> None:
        """Whatever comes later of the same request and reference is a copy."""
        place = partition << _OFFSET_BITS | offset
        self.checkpoint.file.execute(
            "INSERT OR IGNORE INTO seen VALUES (?, ?)", (_identity(org, req, ref), place)
        )

    def _is_known(self, org: str, row: documents.OutcomeRow) -> bool:
        found = self.checkpoint.file.execute(
            "SELECT 1 FROM seen WHERE id = ?", (_identity(org, row.req, row.ref),)
        )
        return found.fetchone() is not None

    def _add(self, org: str, row: documents.OutcomeRow) -> None:
        self.checkpoint.count("booked")
        for line in row.usage:
            for measure, amount in line.measures.items():
                key = (org, line.hour, line.row, measure)
                self._cells[key] = self._cells.get(key, 0) + amount
        for booking in row.bookings:
            if booking.amount:
                period = (org, booking.key)
                self._periods[period] = self._periods.get(period, 0) + booking.amount

    def flush(self) -> None:
        """Hand what was added to the checkpoint, which keeps it with the next commit."""
        file = self.checkpoint.file
        file.executemany(_ADD_CELL, [(*key, amount) for key, amount in self._cells.items()])
        file.executemany(_ADD_PERIOD, [(*key, amount) for key, amount in self._periods.items()])
        for org, offset in self._reached.items():
            self.checkpoint.note(f"booked {org}", str(offset))
        self._cells.clear()
        self._periods.clear()
        self._reached.clear()


def _identity(org: str, req: str, ref: str | None) -> str:
    return f"{org}|{req}|{ref or ''}"


@dataclass(slots=True)
class ShadowLines:
    """Takes usage lines; what else the books write is in the log already, or is of no use to a replay."""

    checkpoint: Checkpoint
    _lines: list[tuple[str, str, str, str, str, int]] = field(default_factory=list)

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:  # noqa: ARG002  # as the books call it
        """Keep the lines among the records."""
        for record in records:
            if record.topic == USAGE_RECORDS:
                line = decode_as(record.value, UsageRecorded)
                hour = hour_of(line.finished_at_ms)
                self._lines.append(
                    (line.usage_id, line.org, hour, row_of(line), amounts_text(line), 0)
                )
            elif record.topic == OUTCOMES:
                self.checkpoint.count("corrections")

    def flush(self) -> None:
        """As ``ShadowLedger.flush``."""
        self.checkpoint.file.executemany(
            "INSERT OR IGNORE INTO line VALUES (?, ?, ?, ?, ?, ?)", self._lines
        )
        self._lines.clear()


@dataclass(frozen=True, slots=True)
class ShadowGraveyard:
    """Names records that accounting buries."""

    checkpoint: Checkpoint

    async def take(self, record: Record, stage: str, error: Exception) -> None:
        """Name it."""
        self.checkpoint.name_undecodable(record.partition, record.offset, f"{stage}: {error}")


class NobodyWatches:
    """Hears of what was booked, and tells nobody."""

    def took(self, partition: int, first: int, last: int) -> None:
        """Nothing follows."""

    async def booked(
        self,
        partition: int,
        org: str,
        rows: Iterable[tuple[Entry, answers.RowFate]],
        at_ms: int,
        deadline_s: float,
    ) -> None:
        """Nothing follows."""
