"""What a rebuild of a shard would change, while the shard decides on: the fold beside what stands there.

The books go on meanwhile. So each organization is compared at the outcome that its books have reached when its
totals are read, in one instant; the fold takes no outcome above that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import msgspec

from accounting.rebuild.build import Parts, ShardBuild
from accounting.rebuild.chunks import balances_of
from accounting.rebuild.fold import TableName
from accounting.rebuild.log import Log
from schemas.ledger import documents

__all__ = ["Difference", "Finding", "compared", "try_rebuild"]

_DIFFERENCES_MAX: Final = 100


class Difference(msgspec.Struct, frozen=True):
    """A balance that a rebuild would change."""

    org: str
    balance: str
    ledger: int
    log: int


class Finding(msgspec.Struct, frozen=True):
    """What a trial found of a shard; the first of its differences."""

    shard: int
    balances: int
    records: int
    differences: tuple[Difference, ...] = ()


def compared(
    stands: Mapping[TableName, int], says: Mapping[TableName, int]
) -> tuple[Difference, ...]:
    """Where the ledger's totals and those of the log differ."""
    return tuple(
        Difference(*table, stands.get(table, 0), says.get(table, 0))
        for table in sorted(stands.keys() | says.keys())
        if stands.get(table, 0) != says.get(table, 0)
    )


async def try_rebuild(shard: int, parts: Parts, log: Log) -> Finding:
    """Fold the shard and compare. Raises ``Transient``."""
    first = ShardBuild(shard, 0, "", "trial", parts)
    await first.read_snapshots(log, parts.ledger.shards.count)
    await first.fold_outcomes(log)
    known = _says(first)
    stands, reached = await _stands(shard, parts, known)
    second = ShardBuild(shard, 0, "", "trial", parts, until=reached)
    second.snapshots = first.snapshots
    await second.fold_outcomes(log)
    differences = compared(stands, _says(second))
    records = first.records + second.records
    return Finding(shard, len(known), records, differences[:_DIFFERENCES_MAX])


def _says(build: ShardBuild) -> dict[TableName, int]:
    oldest_ms = build.clock_ms - build.parts.times.ledger.table_kept_ms
    found = balances_of(build.snapshots, build.fold.balances, oldest_ms)
    return {(each.org, each.key): each.settled for each in found}


async def _stands(
    shard: int, parts: Parts, tables: Mapping[TableName, int]
) -> tuple[dict[TableName, int], dict[str, int]]:
    """What the ledger has of each, and the outcome that each organization has reached there."""
    balances: dict[str, list[str]] = defaultdict(list)
    for org, key in tables:
        balances[org].append(key)
    stands: dict[TableName, int] = {}
    reached: dict[str, int] = {}
    for org, names in balances.items():
        document = documents.TakeSnapshot(org=org, balances=tuple(sorted(names)))
        read = await parts.ledger.snapshot(document)
        reached[org] = read.offsets.get(shard, -1)
        for key, fields in read.totals.items():
            stands[org, key] = fields.get("settled", 0)
    return stands, reached
