"""Keeps a process's clock on the ledger's time: asks the store for it every two seconds.

While the ledger is away the clock runs on by itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from schemas.clock_estimate import Reading
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_PERIOD_S: Final = 2.0
_FIRST_PERIOD_S: Final = 0.1
"""Until the first answer, because nothing is served without it."""
_WITHIN_S: Final = 2.0
_READINGS_MAX: Final = 5
_GOOD_ENOUGH_MS: Final = 1.0
"""A reading as sharp as that is not repeated; others wait for a quieter moment, five at most."""


@dataclass(slots=True)
class LedgerTime:
    """Measures the ledger's time for one clock."""

    clock: Clock
    store: Store
    metrics: Metrics

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            await self.measure()
            is_known = self.clock.error_ms is not None
            await asyncio.sleep(_PERIOD_S if is_known else _FIRST_PERIOD_S)

    async def measure(self) -> None:
        """Measure once; a store that does not answer changes nothing."""
        readings: list[Reading] = []
        try:
            async with asyncio.timeout(_WITHIN_S):
                while len(readings) < _READINGS_MAX:
                    readings.append(await self._read())
                    if readings[-1].error_ms <= _GOOD_ENOUGH_MS:
                        break
        except (StoreUnavailable, StoreError, TimeoutError, ValueError) as error:
            _LOG.event(LogEvent.LEDGER_TIME_UNREAD, error=error)
        if readings:
            self.clock.learn_ledger(min(readings, key=lambda reading: reading.error_ms))
        self._expose()

    async def _read(self) -> Reading:
        before_s = self.clock.monotonic_s()
        seconds, microseconds = await self.store.call("TIME")
        after_s = self.clock.monotonic_s()
        return Reading(before_s, after_s, int(seconds) * 1_000 + int(microseconds) / 1_000)

    def _expose(self) -> None:
        if (error_ms := self.clock.error_ms) is not None:
            self.metrics.set("tallygate_clock_error_seconds", error_ms / 1_000)
            ahead_ms = self.clock.local_ahead_ms
            self.metrics.set("tallygate_clock_local_ahead_seconds", ahead_ms / 1_000)
        if (ahead := self.clock.broker_ahead_ms) is not None:
            self.metrics.set("tallygate_clock_broker_ahead_seconds", ahead / 1_000)
