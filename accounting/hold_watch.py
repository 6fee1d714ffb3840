"""Tells how many holds the ledger has, and how old they are: of the shards whose partitions this process books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from schemas.failures import Failure
from schemas.ids import uuid7_time_ms
from schemas.ledger.keys import EXPIRING, INFLIGHT, of_shard
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store

_LOG = EventLog(__name__)

_EVERY_S: Final = 5.0
_WITHIN_S: Final = 2.0
_MEMBERS_MAX: Final = 100
_STATES: Final = {"reserved": EXPIRING, "running": INFLIGHT}


@dataclass(slots=True)
class HoldWatch:
    """Looks every few seconds; nothing waits for it."""

    store: Store
    owned: Callable[[], frozenset[int]]
    """Partitions of outcomes that this process books now."""
    clock: Clock
    metrics: Metrics

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                async with asyncio.timeout(_WITHIN_S):
                    await self.look()
            except (Failure, TimeoutError) as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="holds", error=error)
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Count and date the holds of both states, all shards in one round trip. Raises ``StoreUnavailable``."""
        shards = sorted(self.owned())
        for state, name in _STATES.items():
            keys = [of_shard(shard, name) for shard in shards]
            counts = asyncio.gather(*(self.store.call("ZCARD", key) for key in keys))
            next_ones = asyncio.gather(
                *(self.store.call("ZRANGE", key, 0, _MEMBERS_MAX - 1) for key in keys)
            )
            counted, members = await asyncio.gather(counts, next_ones)
            self.metrics.set("tallygate_holds", float(sum(counted)), state)
            oldest_s = oldest_age_s(
                (one for shard in members for one in shard), self.clock.now_ms()
            )
            self.metrics.set("tallygate_oldest_hold_seconds", oldest_s, state)


def oldest_age_s(members: Iterable[bytes], now_ms: int) -> float:
    """The age of the oldest request among ``<org>|<request>``, by the time in its id; 0 without one."""
    born_ms = now_ms
    for member in members:
        try:
            born_ms = min(born_ms, uuid7_time_ms(member.decode().rpartition("|")[2]))
        except ValueError:
            continue  # No ingress made it.
    return max(0, now_ms - born_ms) / 1_000
