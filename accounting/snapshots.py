"""Writes absolute values of changed tables to ``usage.tables.v1``, with the outcome offset they stand for.

The ledger notes what changed in the call that changes it, so nothing is missed whoever dies. A round writes
whatever had changed when it began, and ends with a checkpoint: what the outcomes up to there changed stands
before it. Twice a day all tables are written anew, long before the outcomes that made them leave the log.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from accounting.booking import BookedThrough, Place
from accounting.table_records import forget_at_ms, snapshots_of
from accounting.tables_log import TablesLog
from schemas.events import ShardCheckpoint, TableSnapshot
from schemas.failures import Transient
from schemas.ledger import documents, table_calls
from schemas.ledger.errors import LedgerNotReady
from schemas.log_events import LogEvent
from schemas.outgoing import checkpoint_record, table_record, tombstone_record
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.snapshots import key_of, parts_of
from schemas.times import HOUR_MS, LedgerTimes

__all__ = ["Snapshots"]

_LOG = EventLog(__name__)

_PERIOD_S: Final = 10.0
_SWEEP_EVERY_MS: Final = 12 * HOUR_MS
_SWEPT_PER_ROUND: Final = 20
"""Pages of tables that one round notes to be written anew."""
_FORGOTTEN_PER_ROUND: Final = 20
"""Pages of tombstones."""
_FIRST: Final = "0"
_NOTHING: Final = -1


@dataclass(slots=True)
class Snapshots:
    """Runs beside the books, for the shards that this process owns."""

    ledger: LedgerClient
    log: TablesLog
    clock: Clock
    times: LedgerTimes
    owned: Callable[[], frozenset[int]]
    booked: BookedThrough
    _sweeps: dict[int, str] = field(default_factory=dict)
    """Where sweeps that are under way go on."""
    _distrusted: set[int] = field(default_factory=set)
    """Shards of which somebody else wrote tables, until all are written anew."""
    _checkpoints: dict[int, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Write what changed every ten seconds, for ever."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            await self.publish()

    async def publish(self) -> None:
        """Write what changed of every shard; what fails is tried again next time."""
        for shard in sorted(self.owned()):
            try:
                await self._round(shard)
            except Transient as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="snapshot", partition=shard, error=error)

    async def _round(self, shard: int) -> None:
        through = self.booked.get(shard)  # Before anything is read: what is read contains it.
        if shard in self.log.strangers:
            self.log.strangers.discard(shard)
            self._distrusted.add(shard)
            self._sweeps[shard] = _FIRST
        await self._sweep(shard)
        page = await self._changed(shard, _FIRST)
        if not page.complete:
            return  # Its usage hours are not whole yet; those in the log are.
        if page.now_ms - page.swept_ms > _SWEEP_EVERY_MS:
            self._sweeps.setdefault(shard, _FIRST)
        await self._write(shard, page, through)
        while page.cursor != _FIRST:
            page = await self._changed(shard, page.cursor)
            await self._write(shard, page, through)
        if shard not in self._sweeps:
            self._distrusted.discard(shard)
        if through is not None:
            await self._check(shard, page, through)
        await self._forget(shard)

    async def _changed(self, shard: int, cursor: str) -> table_calls.Changed:
        return await self.ledger.changed(shard, table_calls.Page(cursor=cursor))

    async def _write(self, shard: int, page: table_calls.Changed, through: Place | None) -> None:
        """Write the tables of a page as they are now, and note it once the log has them."""
        wanted: dict[str, list[str]] = defaultdict(list)
        for table in page.tables:
            wanted[table.org].append(table.table)
        offset = _NOTHING if through is None else through.offset
        read = await asyncio.gather(
            *(self._read(shard, page.epoch, org, tables, offset) for org, tables in wanted.items())
        )
        records = [part for tables in read for table in tables for part in parts_of(table)]
        await self.log.write([table_record(record) for record in records])
        kept = tuple(self._kept(record) for record in records)
        await self.ledger.written(shard, table_calls.Written(tables=page.tables, kept=kept))

    async def _read(
        self, shard: int, epoch: int, org: str, tables: Sequence[str], through: int
    ) -> list[TableSnapshot]:
        """The tables of one organization at one instant. Raises ``LedgerNotReady`` when they are those of
        another life of the shard, which may not be whole yet."""
        document = documents.TakeSnapshot(
            org=org,
            hours=tuple(name[2:] for name in tables if name.startswith("u:")),
            balances=tuple(name for name in tables if name.startswith("b:")),
        )
        read = await self.ledger.snapshot(document)
        if read.epoch != epoch:
            raise LedgerNotReady(f"shard {shard} was made anew")
        return snapshots_of(org, shard, read, through, self.clock.now_ms())

    def _kept(self, record: TableSnapshot) -> documents.KeptKey:
        suffix = f"u:{record.hour}" if record.hour is not None else min(record.values)
        until_ms = forget_at_ms(suffix, self.times.table_kept_ms)
        return documents.KeptKey(key=key_of(record), until_ms=until_ms)

    async def _check(self, shard: int, page: table_calls.Changed, through: Place) -> None:
        """Say how far the tables in the log stand, unless that was said before or cannot be told."""
        if shard in self._distrusted | self.log.strangers:
            return
        if self._checkpoints.get(shard) == through.offset:
            return
        checkpoint = ShardCheckpoint(
            shard=shard,
            offset=through.offset,
            appended_at_ms=through.at_ms,
            epoch=page.epoch,
            cluster_id=page.cluster_id,
            birth_id=page.birth_id,
            taken_at_ms=self.clock.now_ms(),
        )
        await self.log.write([checkpoint_record(checkpoint)])
        self._checkpoints[shard] = through.offset

    async def _sweep(self, shard: int) -> None:
        """Note some more tables to be written anew, if a sweep is under way."""
        for _ in range(_SWEPT_PER_ROUND):
            cursor = self._sweeps.get(shard)
            if cursor is None:
                return
            swept = await self.ledger.sweep(shard, table_calls.Page(cursor=cursor))
            if swept.cursor == _FIRST:
                del self._sweeps[shard]
            else:
                self._sweeps[shard] = swept.cursor

    async def _forget(self, shard: int) -> None:
        """Write tombstones of what is of no use any more."""
        for _ in range(_FORGOTTEN_PER_ROUND):
            due = (await self.ledger.outlived(shard, table_calls.ListOutlived())).keys
            if not due:
                return
            await self.log.write([tombstone_record(shard, key) for key in due])
            await self.ledger.forgotten(shard, table_calls.Forgotten(keys=due))
