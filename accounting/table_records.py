"""Tables that were read from the ledger, as the records that stand for them, and when those are of no use. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from accounting.rebuild.chunks import period_end_ms
from schemas.events import TableSnapshot
from schemas.ledger import answers
from schemas.times import HOUR_MS

__all__ = ["forget_at_ms", "hour_kept_until_ms", "snapshots_of"]

_NOTHING_BOOKED: Final = -1
_USAGE: Final = "u:"


def snapshots_of(
    org: str, shard: int, read: answers.Snapshot, through: int, now_ms: int
) -> list[TableSnapshot]:
    """The records for what was read of one organization at one instant, when all outcomes of the shard were
    booked up to ``through``. A table without content has left the ledger, and is not written."""
    offset = max(through, read.folded, read.offsets.get(shard, _NOTHING_BOOKED))

    def record(table: str, values: dict[str, int], hour: str | None = None) -> TableSnapshot:
        return TableSnapshot(
            org=org,
            table=table,
            hour=hour,
            partition=shard,
            offset=offset,
            values=values,
            taken_at_ms=now_ms,
        )

    usage = [record("usage", values, hour) for hour, values in read.usage.items() if values]
    balances = [
        record("balances", {balance: fields.get("settled", 0), **_beside(balance, fields)})
        for balance, fields in read.totals.items()
        if fields
    ]
    return [*usage, *balances]


def forget_at_ms(suffix: str, kept_ms: int) -> int | None:
    """When the table with that suffix leaves the ledger: so long after its hour or period; never, without one."""
    if suffix.startswith(_USAGE):
        return hour_kept_until_ms(suffix.removeprefix(_USAGE), kept_ms)
    end_ms = period_end_ms(suffix)
    return None if end_ms is None else end_ms + kept_ms


def hour_kept_until_ms(hour: str, kept_ms: int) -> int:
    """When a usage hour leaves the ledger."""
    start = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    return int(start.timestamp()) * 1_000 + HOUR_MS + kept_ms


def _beside(balance: str, fields: Mapping[str, int]) -> dict[str, int]:
    """What was counted beside what is settled, by balance and field with a tab between them."""
    counted = {name: fields.get(name, 0) for name in ("over", "late")}
    return {f"{balance}\t{name}": amount for name, amount in counted.items() if amount}
