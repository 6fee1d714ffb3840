"""Publishes absolute values of changed tables to ``usage.tables.v1``, with the offset they stand for.

A stale copy in the topic is harmless: whoever rebuilds folds the outcomes after its offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from accounting.books import DirtyTables
from schemas.events import TableSnapshot
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.outgoing import table_record
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.snapshots import parts_of

_LOG = EventLog(__name__)

_PERIOD_S = 10.0
_NOTHING_BOOKED = -1


def snapshots_of(
    org: str, partition: int, read: answers.Snapshot, now_ms: int
) -> list[TableSnapshot]:
    """The records for what was read of one organization at one instant. Pure."""
    offset = read.offsets.get(partition, _NOTHING_BOOKED)
    usage = [
        TableSnapshot(
            org=org,
            table="usage",
            hour=hour,
            partition=partition,
            offset=offset,
            values=values,
            taken_at_ms=now_ms,
        )
        for hour, values in read.usage.items()
    ]
    balances = [
        TableSnapshot(
            org=org,
            table="balances",
            partition=partition,
            offset=offset,
            values={balance: fields.get("settled", 0), **_beside(balance, fields)},
            taken_at_ms=now_ms,
        )
        for balance, fields in read.totals.items()
    ]
    return [*usage, *balances]


def _beside(balance: str, fields: Mapping[str, int]) -> dict[str, int]:
    """What was counted beside what is settled, by balance and field with a tab between them."""
    counted = {name: fields.get(name, 0) for name in ("over", "late")}
    return {f"{balance}\t{name}": amount for name, amount in counted.items() if amount}


@dataclass(slots=True)
class Snapshots:
    """Runs beside the books."""

    ledger: LedgerClient
    producer: Producer
    clock: Clock
    touched: DirtyTables

    async def run(self) -> None:
        """Publish what changed every ten seconds, for ever."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            await self.publish()

    async def publish(self) -> None:
        """Publish what changed since the last time; what fails is tried again next time."""
        for lane in list(self.touched.hours):
            hours = self.touched.hours.pop(lane)
            balances = self.touched.balances.pop(lane, set())
            try:
                await self._publish(*lane, hours, balances)
            except (LedgerUnavailable, ProduceFailed) as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="snapshot", org=lane[0], error=error)
                self.touched.hours[lane] |= hours
                self.touched.balances[lane] |= balances

    async def _publish(self, org: str, partition: int, hours: set[str], balances: set[str]) -> None:
        document = documents.TakeSnapshot(
            org=org, hours=tuple(sorted(hours)), balances=tuple(sorted(balances))
        )
        read = await self.ledger.snapshot(document)
        records = snapshots_of(org, partition, read, self.clock.now_ms())
        await asyncio.gather(
            *(
                self.producer.send(table_record(part))
                for record in records
                for part in parts_of(record)
            )
        )
