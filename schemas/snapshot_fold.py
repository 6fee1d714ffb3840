"""Folds the records of a shard's snapshots into tables, each with the outcome offset that it stands for. Pure.

Records are taken in the order of the log; the newest of a key counts. What a table says of outcomes up to its
offset is whole, and of later ones nothing: whoever rebuilds adds the outcomes above it, and begins to read at
``tail_from``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.codec import decode
from schemas.shard_events import KeptRequest, ShardCheckpoint, TableSnapshot
from schemas.snapshots import part_of

__all__ = ["BalanceTotal", "SnapshotFold", "UsageHour"]


class BalanceTotal(NamedTuple):
    """What the log booked on a balance up to an offset."""

    settled: int
    over: int
    late: int
    offset: int


@dataclass(frozen=True, slots=True)
class UsageHour:
    """A usage table of one hour, whole or in parts of different age."""

    parts: tuple[TableSnapshot, ...]
    """By number."""

    def is_in(self, row: str, offset: int) -> bool:
        """Whether the table has what the outcome at the offset added to the row."""
        return offset <= self.parts[part_of(row, len(self.parts))].offset

    def values(self) -> dict[str, int]:
        """Field to value, all parts together."""
        return {name: value for part in self.parts for name, value in part.values.items()}


@dataclass(slots=True)
class SnapshotFold:
    """The tables of a shard as far as its records were taken."""

    shard: int
    balances: dict[tuple[str, str], BalanceTotal] = field(default_factory=dict)
    """By organization and suffix of the balance in the ledger."""
    keys: dict[tuple[str, str], KeptRequest] = field(default_factory=dict)
    """By organization and hash of the idempotency key."""
    jobs: dict[tuple[str, str], KeptRequest] = field(default_factory=dict)
    """By organization and request."""
    checkpoint: ShardCheckpoint | None = None
    _lowest: int | None = None
    """The lowest offset of a table that was written after the checkpoint."""
    _splits: dict[tuple[str, str], dict[int, dict[int, TableSnapshot]]] = field(
        default_factory=dict
    )
    """By organization and hour, then by the number of parts, then by part."""

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take the next record; a tombstone forgets what its key is of. Raises ``MalformedRecord``."""
        if value is None:
            self._forget((key or b"").decode())
            return
        match decode(value):
            case ShardCheckpoint(shard=self.shard) as checkpoint:
                self.checkpoint, self._lowest = checkpoint, None
            case KeptRequest(idempotency_hash=str(key_hash)) as kept:
                self.keys[kept.org, key_hash] = kept
            case KeptRequest() as kept:
                self.jobs[kept.org, kept.request_id] = kept
            case TableSnapshot(partition=self.shard) as table:
                lowest = self._lowest
                self._lowest = table.offset if lowest is None else min(lowest, table.offset)
                self._take_table(table)
            case _:
                pass  # Of another shard: versions before this one let the key choose the partition.

    @property
    def tail_from(self) -> int:
        """The first offset of the outcomes that a table may lack: above the checkpoint, or above a table that
        somebody wrote after it although it was older. 0 without a checkpoint."""
        if self.checkpoint is None:
            return 0
        stands_for = self.checkpoint.offset
        return 1 + (stands_for if self._lowest is None else min(stands_for, self._lowest))

    @property
    def usage(self) -> Mapping[tuple[str, str], UsageHour]:
        """By organization and hour; of a table that was split anew, the newest split of which all is there."""
        hours = {}
        for table, splits in self._splits.items():
            whole = [split for parts, split in splits.items() if len(split) == parts]
            if whole:
                newest = max(whole, key=lambda split: min(part.offset for part in split.values()))
                hours[table] = UsageHour(tuple(newest[number] for number in sorted(newest)))
        return hours

    def _take_table(self, table: TableSnapshot) -> None:
        if table.hour is not None:
            splits = self._splits.setdefault((table.org, table.hour), {})
            splits.setdefault(table.parts, {})[table.part] = table
            return
        suffix = min(table.values)
        counted = table.values
        self.balances[table.org, suffix] = BalanceTotal(
            counted[suffix],
            counted.get(f"{suffix}\tover", 0),
            counted.get(f"{suffix}\tlate", 0),
            table.offset,
        )

    def _forget(self, key: str) -> None:
        org, _, suffix = key.partition("|")
        kind, rest = suffix[:2], suffix[2:]
        match kind:
            case "b:":
                self.balances.pop((org, suffix), None)
            case "k:":
                self.keys.pop((org, rest), None)
            case "j:":
                self.jobs.pop((org, rest), None)
            case "u:":
                self._forget_hour(org, *rest.split("|"))
            case _:
                pass  # Of a checkpoint, or of no kind that is known here.

    def _forget_hour(self, org: str, hour: str, part: str = "0/1") -> None:
        number, _, parts = part.partition("/")
        splits = self._splits.get((org, hour), {})
        splits.get(int(parts), {}).pop(int(number), None)
        if not any(splits.values()):
            self._splits.pop((org, hour), None)
