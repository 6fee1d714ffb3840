"""Tables that were read from the ledger, as the records that stand for them, and when those are of no use. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.events import TableSnapshot
from schemas.ledger import answers
from schemas.times import HOUR_MS

__all__ = ["forget_at_ms", "hour_kept_until_ms", "snapshots_of"]

_NOTHING_BOOKED: Final = -1
_USAGE: Final = "u:"
_FIRST_OF_NEXT: Final = timedelta(days=32)


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
    period = suffix.rpartition(":")[2]
    if period == "total":
        return None
    form = "%Y-%m" if period.count("-") == 1 else "%Y-%m-%d"
    start = datetime.strptime(period, form).replace(tzinfo=UTC)
    is_month = form == "%Y-%m"
    end = (start + _FIRST_OF_NEXT).replace(day=1) if is_month else start + timedelta(days=1)
    return _ms(end) + kept_ms


def hour_kept_until_ms(hour: str, kept_ms: int) -> int:
    """When a usage hour leaves the ledger."""
    start = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    return _ms(start) + HOUR_MS + kept_ms


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1_000


def _beside(balance: str, fields: Mapping[str, int]) -> dict[str, int]:
    """What was counted beside what is settled, by balance and field with a tab between them."""
    counted = {name: fields.get(name, 0) for name in ("over", "late")}
    return {f"{balance}\t{name}": amount for name, amount in counted.items() if amount}
