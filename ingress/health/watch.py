"""Watches what stands behind ingress, so that neither a request nor a health check asks a store.

Every two seconds, each question for itself and for a second at most: one that hangs delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ingress.gatekeeper.gatekeeper import Conditions
from ingress.health.conditions import all_closed, closed_shards, ledger_fullness, low_disk
from ingress.health.fleet import (
    Fleet,
    LastSeen,
    Moment,
    backends_of,
    models_without_backend,
    workers_of,
)
from schemas.ledger.keys import BACKEND_HEALTH, BROKER_DISK, CONFIG_APPLIED, META, of_shard
from schemas.ledger.shards import Shards
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.silences import Question, Silences
from schemas.runtime.valkey.store import Store, text_pairs

PERIOD_S: Final = 2.0


@dataclass(slots=True)
class HealthWatch:
    """Keeps ``fleet`` and ``conditions`` current, and knows who does not answer."""

    config: ConfigFeed
    shards: Callable[[], Shards | None]
    """All shards of the ledger, once it is known how many there are."""
    ledger_store: Store
    bus_store: Store
    ask_kafka: Question
    clock: Clock
    disk_free_min_bytes: int
    conditions: Conditions = field(default_factory=Conditions)
    fleet: Fleet | None = None
    silences: Silences = field(init=False)
    _workers: LastSeen = field(default_factory=LastSeen)
    _backends: LastSeen = field(default_factory=LastSeen)
    _disks: LastSeen = field(default_factory=LastSeen)

    def __post_init__(self) -> None:
        self.silences = Silences(self.clock)

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> None:
        """Ask everything once."""
        ask = self.silences.ask
        _, _, ledger = await asyncio.gather(
            ask("kafka", self.ask_kafka),
            ask("bus", lambda: self.bus_store.call("PING")),
            ask("ledger", self._ask_ledger),
        )
        if ledger is None:
            return
        applied, health, disks, info, metas = ledger
        shards = self.shards()
        now = Moment(self.clock.now_ms(), self.clock.monotonic_s())
        self.fleet = self._fleet(applied, health, now)
        self.conditions.shards, self.conditions.closed = shards, closed_shards(metas)
        self.conditions.ledger = all_closed(self.conditions.closed, len(metas))
        self.conditions.ledger_memory = ledger_fullness(info)
        self.conditions.disk = low_disk(disks, self._disks, now, self.disk_free_min_bytes)
        self._workers.keep(applied)
        self._backends.keep(health)
        self._disks.keep(disks)

    async def _ask_ledger(
        self,
    ) -> tuple[dict[str, str], dict[str, str], dict[str, str], str, list[list[bytes | None]]]:
        call = self.ledger_store.call
        *hashes, info, metas = await asyncio.gather(
            call("HGETALL", CONFIG_APPLIED),
            call("HGETALL", BACKEND_HEALTH),
            call("HGETALL", BROKER_DISK),
            call("INFO", "memory"),
            asyncio.gather(
                *(call("HMGET", of_shard(n, META), "ready", "why") for n in self.shards() or ())
            ),
        )
        applied, health, disks = map(text_pairs, hashes)
        return applied, health, disks, info.decode() if isinstance(info, bytes) else "", metas

    def _fleet(self, applied: Mapping[str, str], health: Mapping[str, str], now: Moment) -> Fleet:
        snapshot = self.config.snapshot
        backends = backends_of(snapshot, health, self._backends, now)
        return Fleet(
            at_s=now.monotonic_s,
            workers=workers_of(applied, self._workers, now),
            backends=backends,
            models_without_backend=models_without_backend(snapshot, backends),
            models=len(snapshot.models),
        )
