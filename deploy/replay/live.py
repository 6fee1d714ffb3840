"""The live tables beside a fold: usage hours and periods, as the ledger has them. Only reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

from aiokafka import TopicPartition

from deploy.replay.checkpoint import Checkpoint
from schemas.ledger import calls, keys
from schemas.ledger.answers import Snapshot
from schemas.ledger.documents import TakeSnapshot
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.shards import Shards
from schemas.runtime.kafka.free_consumer import committed_offsets
from schemas.runtime.valkey.cold_store import ColdStore, ask
from schemas.times import FULL
from schemas.topics import OUTCOMES, group_of
from schemas.usage import hour_of, read_cell

__all__ = ["LedgerReading", "LiveTables", "StoredLedger", "accounting_is_past"]

_HOURS_PER_CALL: Final = 4
_BALANCES_PER_CALL: Final = 10
_REST_MAX_S: Final = 0.05
_KEPT_MS: Final = FULL.ledger.table_kept_ms
_ASK_AGAIN_S: Final = 0.5
_ADD_LIVE: Final = "INSERT INTO cell VALUES (?, ?, ?, ?, 0, ?) ON CONFLICT DO UPDATE SET live = live + excluded.live"
_SET_PERIOD: Final = "UPDATE period SET live = ? WHERE org = ? AND balance = ?"

T = TypeVar("T")


async def accounting_is_past(brokers: str, ends: Mapping[int, int], within_s: float) -> str | None:
    """``None`` once accounting has committed these offsets of the outcomes; how far it is behind, if it does not in time.

    Raises ``KafkaError`` and ``TimeoutError``.
    """
    group, give_up_s = group_of("accounting"), time.monotonic() + within_s
    while True:
        committed = (await committed_offsets(brokers, [group]))[group]
        behind = {
            number: end - done
            for number, end in ends.items()
            if end > (done := committed.get(TopicPartition(OUTCOMES, number), 0))
        }
        if not behind:
            return None
        if time.monotonic() >= give_up_s:
            return (
                f"accounting is {sum(behind.values())} outcomes behind in {len(behind)} partitions"
            )
        await asyncio.sleep(_ASK_AGAIN_S)


class LedgerReading(Protocol):
    """What is read of the ledger."""

    async def closed(self, shards: Shards) -> dict[int, str]:
        """Shards whose usage hours are not whole now, and why."""

    async def snapshot(self, shard: int, document: TakeSnapshot) -> Snapshot:
        """Tables of one organization at one instant. Raises ``LedgerNotReady``."""


@dataclass(frozen=True, slots=True)
class StoredLedger:
    """The ledger in its store. It is not met: whether its shards are to be trusted is for processes to say."""

    store: ColdStore

    async def closed(self, shards: Shards) -> dict[int, str]:
        """Shards whose usage hours are not whole now, and why. Raises ``StoreUnavailable`` and ``StoreError``."""
        closed = {}
        for shard in shards:
            stored = cast("Any", await self.store.hgetall(keys.of_shard(shard, keys.META)))
            if stored.get(b"ready") != b"1":
                closed[shard] = f"shard {shard} is closed"
            elif stored.get(b"complete", b"1") != b"1":
                closed[shard] = f"usage hours of shard {shard} are being rebuilt"
        return closed

    async def snapshot(self, shard: int, document: TakeSnapshot) -> Snapshot:
        """Tables of one organization at one instant. Raises as ``closed``, and ``LedgerNotReady``."""
        return cast("Snapshot", await ask(self.store, calls.snapshot(shard, document)))


@dataclass(slots=True)
class LiveTables:
    """Reads of the ledger what the fold has touched, a little at a time and with rests."""

    ledger: LedgerReading
    shards: Shards
    checkpoint: Checkpoint
    now_ms: int
    left_out: dict[str, int] = field(default_factory=dict)
    """Why some tables were not compared, and how many."""
    highest: dict[int, int] = field(default_factory=dict)
    """By partition, the last outcome that a table which was read stands for."""

    async def read_hours(self) -> None:
        """Add the usage hours. Raises ``StoreUnavailable`` and ``StoreError``."""
        oldest = hour_of(self.now_ms - _KEPT_MS)
        closed = await self.ledger.closed(self.shards)
        for org, hours in self._touched():
            kept = [hour for hour in hours if hour > oldest]
            self._leave(f"older than {_KEPT_MS // 86_400_000} days", len(hours) - len(kept))
            shard = self.shards.of(org)
            if shard in closed:
                self._leave(closed[shard], len(kept))
                continue
            for some in _steps(kept, _HOURS_PER_CALL):
                await self._read(org, shard, some)

    async def _read(self, org: str, shard: int, hours: Sequence[str]) -> None:
        snapshot = await self._snapshot(shard, TakeSnapshot(org=org, hours=tuple(hours)))
        if snapshot is None:
            self._leave(f"shard {shard} is closed", len(hours))
            return
        reached = self._reached(snapshot, shard)
        if reached < int(self.checkpoint.fact(f"booked {org}") or -1):
            self._leave("accounting has not booked all of the range", len(hours))
            return
        for hour in hours:
            try:
                named = [(*read_cell(name), n) for name, n in snapshot.usage.get(hour, {}).items()]
            except ValueError:
                self._leave("a field of the table is none of ours", 1)
                continue
            cells = [(org, hour, "\t".join(row), measure, n) for row, measure, n in named]
            self.checkpoint.file.executemany(_ADD_LIVE, cells)
            self.checkpoint.file.execute(
                "INSERT OR REPLACE INTO reached VALUES (?, ?, ?)", (org, hour, reached)
            )

    async def read_periods(self, ends: Mapping[int, int]) -> None:
        """Set what the totals of balances say, of organizations that booked nothing since the range ended."""
        for org, balances in self._booked_periods():
            shard = self.shards.of(org)
            for some in _steps(balances, _BALANCES_PER_CALL):
                snapshot = await self._snapshot(shard, TakeSnapshot(org=org, balances=tuple(some)))
                if snapshot is None or self._reached(snapshot, shard) >= ends.get(shard, 0):
                    self.checkpoint.file.executemany(
                        "DELETE FROM period WHERE org = ? AND balance = ?", [(org, b) for b in some]
                    )
                    self._leave("periods of organizations that went on meanwhile", len(some))
                    continue
                values = [(snapshot.totals.get(b, {}).get("settled", 0), org, b) for b in some]
                self.checkpoint.file.executemany(_SET_PERIOD, values)

    def _reached(self, snapshot: Snapshot, shard: int) -> int:
        reached = max(snapshot.folded, snapshot.offsets.get(shard, -1))
        self.highest[shard] = max(self.highest.get(shard, -1), reached)
        return reached

    async def _snapshot(self, shard: int, document: TakeSnapshot) -> Snapshot | None:
        began_s = time.monotonic()
        try:
            return await self.ledger.snapshot(shard, document)
        except LedgerNotReady:
            return None
        finally:
            await asyncio.sleep(min(time.monotonic() - began_s, _REST_MAX_S))

    def _touched(self) -> Iterator[tuple[str, list[str]]]:
        return self._grouped("cell", "hour")

    def _booked_periods(self) -> Iterator[tuple[str, list[str]]]:
        return self._grouped("period", "balance")

    def _grouped(self, table: str, column: str) -> Iterator[tuple[str, list[str]]]:
        """By organization the values of a column; one organization is in memory at a time."""
        next_one = f"SELECT org FROM {table} WHERE org > ? ORDER BY org LIMIT 1"  # noqa: S608  # names of our own
        of_one = f"SELECT DISTINCT {column} FROM {table} WHERE org = ? ORDER BY 1"  # noqa: S608  # as above
        file, org = self.checkpoint.file, ""
        while (found := file.execute(next_one, (org,)).fetchone()) is not None:
            org = found[0]
            yield org, [value for (value,) in file.execute(of_one, (org,)).fetchall()]

    def _leave(self, why: str, tables: int) -> None:
        if tables:
            self.left_out[why] = self.left_out.get(why, 0) + tables


def _steps(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
