"""Tells the ledger store and the metrics how this process sees the backends: what the admin API shows."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import msgspec

from dispatcher.backends import Backends, Lane
from schemas.keys import BACKEND_HEALTH
from schemas.runtime.clock import Clock
from schemas.runtime.store import Argument, StoreConnection, StoreError, StoreUnavailable
from schemas.runtime.telemetry import Metrics

_LOG = logging.getLogger(__name__)

_PERIOD_S = 2.0
_LOOK_S = 0.25
_LOOKS_PER_REPORT = round(_PERIOD_S / _LOOK_S)


@dataclass(slots=True)
class HealthReport:
    """Reports every two seconds, and within a quarter of one after a change."""

    backends: Backends
    store: StoreConnection
    metrics: Metrics
    clock: Clock
    instance_id: str
    _reported: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Report for ever."""
        looks = 0
        while True:
            changed = self.backends.observe()
            for name in changed:
                self._tell(name, self.backends.lanes[name])
            if changed or looks % _LOOKS_PER_REPORT == 0:
                await self._report()
            looks += 1
            await asyncio.sleep(_LOOK_S)

    def _tell(self, name: str, lane: Lane) -> None:
        _LOG.info("backend %s is %s", name, lane.shown)
        self.metrics.set("tallygate_backend_healthy", float(lane.shown == "healthy"), name)

    async def _report(self) -> None:
        lanes = self.backends.lanes
        lines: list[Argument] = []
        for name, lane in lanes.items():
            lines += [self._field(name), self._line(lane)]
        gone = [self._field(name) for name in self._reported - lanes.keys()]
        self._reported = set(lanes)
        try:
            if lines:
                await self.store.call("HSET", BACKEND_HEALTH, *lines)
            if gone:
                await self.store.call("HDEL", BACKEND_HEALTH, *gone)
        except (StoreUnavailable, StoreError) as error:
            _LOG.warning("health not reported: %r", error)

    def _field(self, backend: str) -> str:
        return f"{self.instance_id}|{backend}"

    def _line(self, lane: Lane) -> bytes:
        return msgspec.json.encode(
            {
                "state": lane.shown,
                "since_ms": lane.since_ms,
                "inflight": lane.in_flight,
                "at_ms": self.clock.now_ms(),
            }
        )
