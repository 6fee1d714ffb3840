"""Watches what stands behind ingress, so that neither a request nor a health check asks a store.

Every two seconds, each question for itself and for a second at most: one that hangs delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ingress.health.conditions import Conditions, ledger_fullness, low_disk
from ingress.health.fleet import (
    Fleet,
    LastSeen,
    Moment,
    backends_of,
    models_without_backend,
    workers_of,
)
from schemas.failures import Transient
from schemas.ledger.keys import BACKEND_HEALTH, BROKER_DISK, CONFIG_APPLIED
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import StoreConnection, StoreError, text_pairs

PERIOD_S: Final = 2.0
_ANSWER_WITHIN_S: Final = 1.0

_UNANSWERED: Final = (Transient, StoreError, TimeoutError)

Question = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class HealthWatch:
    """Keeps ``fleet`` and ``conditions`` current, and knows who does not answer."""

    config: ConfigFeed
    ledger_store: StoreConnection
    bus_store: StoreConnection
    ask_kafka: Question
    clock: Clock
    disk_free_min_bytes: int
    conditions: Conditions = field(default_factory=Conditions)
    fleet: Fleet | None = None
    _unanswered_since_s: dict[str, float] = field(default_factory=dict)
    _workers: LastSeen = field(default_factory=LastSeen)
    _backends: LastSeen = field(default_factory=LastSeen)
    _disks: LastSeen = field(default_factory=LastSeen)

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_S)

    def silence_s(self, name: str) -> float:
        """For how long ``ledger``, ``bus`` or ``kafka`` has not answered; 0 when it does."""
        since_s = self._unanswered_since_s.get(name)
        return 0.0 if since_s is None else self.clock.monotonic_s() - since_s

    async def look(self) -> None:
        """Ask everything once."""
        _, _, ledger = await asyncio.gather(
            self._ask("kafka", self.ask_kafka),
            self._ask("bus", lambda: self.bus_store.call("PING")),
            self._ask("ledger", self._ask_ledger),
        )
        if ledger is None:
            return
        applied, health, disks, info = ledger
        now = Moment(self.clock.now_ms(), self.clock.monotonic_s())
        self.fleet = self._fleet(applied, health, now)
        self.conditions.ledger = ledger_fullness(info)
        self.conditions.disk = low_disk(disks, self._disks, now, self.disk_free_min_bytes)
        self._workers.keep(applied)
        self._backends.keep(health)
        self._disks.keep(disks)

    async def _ask_ledger(self) -> tuple[dict[str, str], dict[str, str], dict[str, str], str]:
        call = self.ledger_store.call
        *hashes, info = await asyncio.gather(
            call("HGETALL", CONFIG_APPLIED),
            call("HGETALL", BACKEND_HEALTH),
            call("HGETALL", BROKER_DISK),
            call("INFO", "memory"),
        )
        applied, health, disks = map(text_pairs, hashes)
        return applied, health, disks, info.decode() if isinstance(info, bytes) else ""

    async def _ask(self, name: str, question: Question) -> Any:
        """The answer; ``None`` when there was none in time."""
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                answer = await question()
        except _UNANSWERED:
            self._unanswered_since_s.setdefault(name, self.clock.monotonic_s())
            return None
        self._unanswered_since_s.pop(name, None)
        return answer

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
