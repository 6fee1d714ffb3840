"""The fold of one shard: outcomes in, balances and marks out. Pure.

It begins with snapshots: absolute values, each with the offset up to which it stands. The checkpoint says
that whatever changed up to its offset W stands in some snapshot, so that outcomes above W are enough. Of
them a table takes those above its own offset.

An outcome counts once, whatever was produced twice: the first of its request (and, of a correction, of its
reference) in the order of the partition. The fold knows what it read, and it reads from a while before W. An
id that was made before that may be a copy of a record that nobody read here: such rows are set aside,
and whoever has looked them up in the log hands them in again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from accounting.rebuild.rows import Row
from schemas.ids import made_at_ms
from schemas.snapshots import part_of

__all__ = ["Added", "Fold", "Mark", "Start", "TableName", "mark_field"]

TableName: TypeAlias = tuple[str, str]
"""An organization, and the suffix of a balance or the hour of a usage table."""

Identity: TypeAlias = str | tuple[str, str]
"""A request, or a request and the reference of a correction."""


class Mark(NamedTuple):
    """Where the first record of a request, or of a correction, stands; kept until the log's clock is past."""

    org: str
    req: str
    field: str
    """Its name in the ledger."""
    offset: int
    due_ms: int
    """When the log's clock may forget it."""
    ran: bool
    """Whether a backend was called."""


def mark_field(ref: str | None) -> str:
    """The name of a mark: of a request, or of the correction with that reference."""
    return "booked" if ref is None else f"booked:{ref}"


@dataclass(frozen=True, slots=True)
class Start:
    """What the fold begins with."""

    checkpoint: int = -1
    """Every table that changed up to this offset stands in a snapshot."""
    read_since_ms: int = 0
    """Whatever was made after this time has all of its records among those that are read."""
    offsets: Mapping[TableName, Sequence[int]] = field(default_factory=dict)
    """Tables that have a snapshot, and up to which offset each part of it stands."""
    until: Mapping[str, int] = field(default_factory=dict)
    """By organization the last offset that is wanted; all, where none is said."""

    def stands_for(self, table: TableName, row: str = "") -> int:
        """The outcome up to which the snapshot of the table's row stands; -1 without one."""
        parts = self.offsets.get(table)
        if not parts:
            return -1
        return parts[part_of(row, len(parts)) if len(parts) > 1 else 0]


@dataclass(slots=True)
class Added:
    """What outcomes add to a balance."""

    stands_for: int
    """The outcome up to which its snapshot stands; -1 without one."""
    settled: int = 0
    late: int = 0
    changed: int = -1
    """The last outcome that changed it; -1 when none did."""


@dataclass(slots=True)
class Fold:
    """What the outcomes that were read add to the snapshots."""

    start: Start
    balances: dict[TableName, Added] = field(default_factory=dict)
    aside: list[Row] = field(default_factory=list)
    """Rows of which only the log can say whether they are the first of their request."""
    copies: set[int] = field(default_factory=set)
    """Offsets above the checkpoint that do not count."""
    seen: set[Identity] = field(default_factory=set)
    rows: int = 0
    """How many were added."""

    def take(self, row: Row, kept_ms: int) -> Mark | None:
        """Take the next row of the partition; its mark, unless it is the copy of an earlier one.

        ``kept_ms`` is how long marks stay after deadline and append time.
        """
        identity = row.req if row.ref is None else (row.req, row.ref)
        if identity in self.seen:
            self.copies.add(row.offset)
            return None
        self.seen.add(identity)
        if row.offset > self.start.checkpoint:
            since_ms = self.start.read_since_ms
            if since_ms and made_at_ms(row.req) < since_ms:
                self.aside.append(row)
            else:
                self.add(row)
        due_ms = max(row.deadline_ms, row.at_ms) + kept_ms
        return Mark(row.org, row.req, mark_field(row.ref), row.offset, due_ms, row.ran)

    def settle(self, copies: Iterable[int]) -> None:
        """Add what was set aside, but for copies of earlier records, whose offsets are given."""
        self.copies.update(copies)
        for row in self.aside:
            if row.offset not in self.copies:
                self.add(row)
        self.aside.clear()

    def add(self, row: Row) -> None:
        """Add a row that is the first of its request to every balance that does not contain it."""
        org, offset, balances = row.org, row.offset, self.balances
        if self.start.until and offset > self.start.until.get(org, offset):
            return
        self.rows += 1
        for key, amount in row.bookings:
            if not amount:
                continue
            added = balances.get((org, key))
            if added is None:
                added = balances[org, key] = Added(self.start.stands_for((org, key)))
            if offset > added.stands_for:
                added.settled += amount
                added.changed = max(added.changed, offset)
                if row.ref is not None and amount > 0:
                    added.late += amount
