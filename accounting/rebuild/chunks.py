"""What is restored, in pieces that the ledger takes in a few milliseconds each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, TypeVar

from accounting.rebuild.fold import Added, TableName
from accounting.rebuild.snapshots import Balance, ShardSnapshots
from schemas.ledger.rebuild_calls import RestoredBalance

__all__ = ["balances_of", "chunks", "period_end_ms"]

T = TypeVar("T")

_NOTHING: Final = Balance(0, 0, 0, -1)
_UNCHANGED: Final = Added(-1)
_DAY_CHARS: Final = len("2026-11-21")
_MONTH_CHARS: Final = len("2026-11")


def chunks(whole: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """The whole in pieces of that size."""
    rest = iter(whole)
    while piece := tuple(islice(rest, size)):
        yield piece


def balances_of(
    snapshots: ShardSnapshots, changes: Mapping[TableName, Added], ended_before_ms: int
) -> Iterator[RestoredBalance]:
    """Every balance that the log knows, but for those whose period ended too long ago to matter."""
    for table in snapshots.balances.keys() | changes.keys():
        end_ms = period_end_ms(table[1])
        if end_ms is not None and end_ms < ended_before_ms:
            continue
        was = snapshots.balances.get(table, _NOTHING)
        added = changes.get(table, _UNCHANGED)
        yield RestoredBalance(
            org=table[0],
            key=table[1],
            settled=was.settled + added.settled,
            over=was.over,
            late=was.late + added.late,
            end_ms=end_ms,
            changed=added.changed if added.changed >= 0 else None,
        )


def period_end_ms(balance: str) -> int | None:
    """When the period in a balance's suffix ends, in Unix milliseconds; ``None``: never, or it has none."""
    period = balance.rpartition(":")[2]
    try:
        if len(period) == _DAY_CHARS:
            end = _day(period) + timedelta(days=1)
        elif len(period) == _MONTH_CHARS:
            end = (_day(f"{period}-01") + timedelta(days=32)).replace(day=1)
        else:
            return None
    except ValueError:
        return None
    return int(end.timestamp()) * 1_000


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
