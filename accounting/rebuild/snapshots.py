"""What the snapshots of a shard say: balances, up to where each table stands, the checkpoint. Pure.

Of usage hours, which are many and wait until the shard is open, the first reading takes no more than their
place and the offset that stands in their record's id. The newest record of a key counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from accounting.rebuild.fold import Start, TableName
from accounting.rebuild.records import LogRecord
from schemas.codec import decode
from schemas.shard_events import KeptRequest, ShardCheckpoint, TableSnapshot
from schemas.snapshots import kind_of

__all__ = ["Balance", "HourPart", "ShardSnapshots"]


class Balance(NamedTuple):
    """What the log booked on a balance, up to an offset."""

    settled: int
    over: int
    late: int
    offset: int


class HourPart(NamedTuple):
    """A record of a usage hour: up to where it stands, and where it is."""

    offset: int
    partition: int
    place: int


@dataclass(slots=True)
class ShardSnapshots:
    """The snapshots of one shard, as far as they were taken in the order of the log."""

    shard: int
    balances: dict[TableName, Balance] = field(default_factory=dict)
    kept: dict[tuple[str, str], KeptRequest] = field(default_factory=dict)
    """By organization, and by suffix in the ledger: `k:<key hash>` or `j:<request>`."""
    checkpoint: ShardCheckpoint | None = None
    _lowest: int | None = None
    """The lowest offset of a table that was written after the checkpoint."""
    _hours: dict[TableName, dict[int, dict[int, HourPart]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    """By organization and hour: number of parts, part, record."""

    def take(self, record: LogRecord, partition: int) -> None:
        """Take the next record of the partition. Raises ``MalformedRecord`` for bytes that are none of ours."""
        kind = kind_of(record.key or b"")
        if kind is not None and partition != self.shard:
            return  # Of another shard; only those before this version stood anywhere.
        if kind == "usage":
            self._take_hour(record, partition)
        elif record.value is None:
            self._forget(record.key or b"")
        else:
            self._take_value(record, record.value, partition)

    def start(self, read_since_ms: int, until: Mapping[str, int]) -> Start:
        """Where the fold of the outcomes begins."""
        offsets = {table: (balance.offset,) for table, balance in self.balances.items()}
        return Start(self.stands_for, read_since_ms, offsets, until)

    def start_of_hours(self) -> Start:
        """Where the fold of usage hours begins: at each its own offset."""
        offsets = {
            table: tuple(part.offset for part in parts) for table, parts in self.hours().items()
        }
        return Start(self.stands_for, offsets=offsets)

    @property
    def stands_for(self) -> int:
        """The offset below which no outcome is wanted: that of the checkpoint, or of a table that somebody
        wrote after it although it was older; -1 without a checkpoint."""
        if self.checkpoint is None:
            return -1
        stands_for = self.checkpoint.offset
        return stands_for if self._lowest is None else min(stands_for, self._lowest)

    def hours(self) -> dict[TableName, tuple[HourPart, ...]]:
        """The parts of each usage hour; of one that was split anew the newest split that is whole."""
        found = {}
        for table, splits in self._hours.items():
            whole = [split for parts, split in splits.items() if len(split) == parts]
            if whole:
                newest = max(whole, key=lambda split: min(part.offset for part in split.values()))
                found[table] = tuple(newest[number] for number in sorted(newest))
        return found

    def _take_hour(self, record: LogRecord, partition: int) -> None:
        org, hour, number, parts = _hour_in(record.key or b"")
        split = self._hours[org, hour][parts]
        if record.value is None:
            split.pop(number, None)
            return
        named = dict(record.headers).get("ce_id", b"").decode().rpartition("@")[2]
        self._note_hour(split, number, HourPart(int(named), partition, record.offset))

    def _note_hour(self, split: dict[int, HourPart], number: int, part: HourPart) -> None:
        split[number] = part
        self._note(part.offset)

    def _take_value(self, record: LogRecord, value: bytes, partition: int) -> None:
        match decode(value):
            case ShardCheckpoint(shard=self.shard) as checkpoint:
                self.checkpoint, self._lowest = checkpoint, None
            case KeptRequest(idempotency_hash=key_hash) as kept:
                suffix = f"k:{key_hash}" if key_hash is not None else f"j:{kept.request_id}"
                self.kept[kept.org, suffix] = kept
            case TableSnapshot(partition=self.shard, hour=None) as table:
                self._take_balance(table)
            case TableSnapshot(partition=self.shard, hour=str(hour)) as table:
                split = self._hours[table.org, hour][table.parts]
                self._note_hour(split, table.part, HourPart(table.offset, partition, record.offset))
            case _:
                pass  # Of another shard: before this version the key chose the partition.

    def _take_balance(self, table: TableSnapshot) -> None:
        values = table.values
        suffixes = [name for name in values if "\t" not in name]
        for suffix in suffixes:
            self.balances[table.org, suffix] = Balance(
                values[suffix],
                values.get(f"{suffix}\tover", 0),
                values.get(f"{suffix}\tlate", 0),
                table.offset,
            )
        self._note(table.offset)

    def _note(self, offset: int) -> None:
        self._lowest = offset if self._lowest is None else min(self._lowest, offset)

    def _forget(self, key: bytes) -> None:
        org, _, suffix = key.decode(errors="replace").partition("|")
        self.balances.pop((org, suffix), None)
        self.kept.pop((org, suffix), None)


def _hour_in(key: bytes) -> tuple[str, str, int, int]:
    """Organization, hour, number of the part and how many there are, from the key of a usage hour."""
    org, _, suffix = key.decode().partition("|")
    hour, _, part = suffix.removeprefix("u:").partition("|")
    number, _, parts = (part or "0/1").partition("/")
    return org, hour, int(number), int(parts)
