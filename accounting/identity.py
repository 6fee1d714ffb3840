"""Compares the shards of this process with the log: a shard is the fold of one log, and must not pass for another's.

A log that was made anew has nothing of what a shard remembers. Made again from it, all budgets would begin anew,
so such a shard stays closed until an operator says that this is the log now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiokafka.errors import KafkaError

from accounting.earlier import LogUnreadable
from accounting.positions import OutcomePositions, Positions
from accounting.rebuild.causes import ANOTHER_LOG
from schemas.failures import Transient
from schemas.ledger.shard_documents import Identify
from schemas.log_events import LogEvent
from schemas.readiness import DEGRADED
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.topic_admin import cluster_id_of
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

__all__ = ["Facts", "ReadFacts", "ShardIdentity", "log_facts"]

_LOG = EventLog(__name__)

_LOOK_S: Final = 1.0
_EVERY_LOOKS: Final = 30
"""A log changes seldom; partitions that were just taken over are compared at the next look."""
_WITHIN_S: Final = 10.0
_FOREIGN: Final = frozenset({ANOTHER_LOG, "log lost its end"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What the broker says: who it is, and how far outcomes and books of each partition reach."""

    cluster_id: str | None
    positions: Mapping[int, Positions]


ReadFacts = Callable[[Collection[int]], Awaitable[Facts]]
"""Reads the facts of these partitions. Raises ``LogUnreadable``."""


async def log_facts(brokers: str, partitions: Collection[int]) -> Facts:
    """The facts as these brokers tell them. Raises ``LogUnreadable``."""
    try:
        async with asyncio.timeout(_WITHIN_S):
            cluster_id = await cluster_id_of(brokers)
    except (TimeoutError, KafkaError) as error:
        raise LogUnreadable(f"the log does not say which it is: {error!r}") from error
    return Facts(cluster_id, await OutcomePositions(brokers).read(partitions))


@dataclass(slots=True)
class ShardIdentity:
    """Runs beside the books."""

    ledger: LedgerClient
    facts: ReadFacts
    config: ConfigFeed
    owned: Callable[[], frozenset[int]]
    """Partitions of outcomes that this process books now."""
    metrics: Metrics
    foreign: dict[int, str] = field(default_factory=dict)
    """Shards that belong to another log than the one here, and how that is known."""

    async def run(self) -> None:
        """Compare again and again, for ever."""
        compared: frozenset[int] = frozenset()
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            looks += 1
            owned = self.owned()
            if not owned or (owned == compared and looks < _EVERY_LOOKS):
                continue
            try:
                await self.compare(owned)
                compared, looks = owned, 0
            except Transient as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="identity", error=error)
            except Exception as defect:  # noqa: BLE001  # total: it goes on whatever a round meets
                _LOG.event(LogEvent.ROUND_DEFECT, step="identity", defect=defect)

    async def compare(self, shards: Collection[int]) -> None:
        """Close those of another log, or that lack what was booked, and tell the others which log they are of.

        Raises ``LedgerUnavailable`` and ``LogUnreadable``.
        """
        told = {n: (await self.ledger.identify(n, Identify())).booked for n in sorted(shards)}
        # An end that was read before could be passed by what is booked since.
        facts = await self.facts(told)
        found: dict[int, str] = {}
        for shard, booked in told.items():
            at = facts.positions.get(shard)
            here = Identify(
                cluster_id=facts.cluster_id,
                birth_id=self.config.snapshot.birth_id,
                booked=booked,
                end=None if at is None else at.end,
                committed=None if at is None else at.committed,
            )
            meta = await self.ledger.identify(shard, here)
            if not meta.ready and meta.why in _FOREIGN:
                found[shard] = meta.why
        others = {shard: why for shard, why in self.foreign.items() if shard not in told}
        self._tell({shard: why for shard, why in (others | found).items() if shard in self.owned()})

    def _tell(self, found: dict[int, str]) -> None:
        for shard, why in found.items():
            if self.foreign.get(shard) != why:
                _LOG.event(LogEvent.SHARD_OF_ANOTHER_LOG, partition=shard, cause=why)
        self.foreign = found
        self.metrics.set("tallygate_ledger_foreign_shards", len(found))

    def components(self) -> dict[str, str]:
        """Readiness: the shards that belong to another log."""
        return {f"ledger-{shard}": f"{DEGRADED}{why}" for shard, why in self.foreign.items()}
