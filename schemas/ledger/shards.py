"""The shards of the ledger: each is the fold of one partition of outcomes, and has its number. Pure.

Whatever an organization has in the ledger stands in one shard, so that each function touches one slot of a
cluster, and what one partition of the log says is enough to make a shard again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from schemas.partitions import partition_of

__all__ = ["Shards", "shard_of"]


@lru_cache(maxsize=65_536)
def shard_of(org: str, count: int) -> int:
    """The shard of an organization: the partition that its records go to."""
    return partition_of(org.encode(), count)


@dataclass(frozen=True, slots=True)
class Shards:
    """All shards of a ledger; there are as many as the outcomes topic has partitions, for life."""

    count: int

    def of(self, org: str) -> int:
        """The shard of an organization."""
        return shard_of(org, self.count)

    def __iter__(self) -> Iterator[int]:
        """Their numbers."""
        return iter(range(self.count))
