"""Watches what stands behind ingress, so that neither a request nor a health check asks a store.

Every two seconds, each question for itself and for a second at most: one that hangs delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ingress.gatekeeper.log_gate import Conditions
from ingress.health.conditions import (
    all_closed,
    closed_shards,
    disks_free,
    ledger_fullness,
    low_disk,
)
from ingress.health.fleet import (
    Fleet,
    LastSeen,
    Moment,
    backends_of,
    excess_of,
    models_without_backend,
    reports_of,
    workers_of,
)
from ingress.health.ledger_told import ask_ledger
from schemas.ledger.shards import Shards
from schemas.routes import in_force
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.silences import Question, Silences
from schemas.runtime.valkey.store import Store

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
    free_bytes: dict[str, int] = field(default_factory=dict)
    """What the disks of brokers have left, by host, as it was reported last."""
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
        ask, shards = self.silences.ask, self.shards()
        _, _, ledger = await asyncio.gather(
            ask("kafka", self.ask_kafka),
            ask("bus", lambda: self.bus_store.call("PING")),
            ask("ledger", lambda: ask_ledger(self.ledger_store, shards)),
        )
        if ledger is None:
            return
        now = Moment(self.clock.now_ms(), self.clock.monotonic_s())
        closed = closed_shards(ledger.metas, self.config.snapshot.ledger_epochs)
        self.conditions.shards, self.conditions.closed = shards, closed
        self.conditions.ledger = all_closed(closed, len(ledger.metas))
        self.conditions.ledger_memory = ledger_fullness(ledger.memories)
        if ledger.reports is None:
            # What was told before stands, and grows old by itself.
            return
        applied, health, disks = ledger.reports
        snapshot, said = self.config.snapshot, reports_of(health, self._backends, now)
        backends = backends_of(snapshot, said, now.unix_ms)
        self.fleet = Fleet(
            at_s=now.monotonic_s,
            workers=workers_of(applied, self._workers, now),
            backends=backends,
            models_without_backend=models_without_backend(snapshot, backends, now.unix_ms),
            models=len(snapshot.models),
            overrides=in_force(snapshot, now.unix_ms),
        )
        self.conditions.excess = excess_of(snapshot, said)
        self.conditions.disk = low_disk(disks, self._disks, now, self.disk_free_min_bytes)
        self.free_bytes = disks_free(disks)
        self._workers.keep(applied)
        self._backends.keep(health)
        self._disks.keep(disks)
