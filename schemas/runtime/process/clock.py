"""The one place that reads time and randomness; everything else is handed their values.

Time of records is the ledger's, so that machines whose clocks differ agree on deadlines and periods. The
clock of the machine counts only until the ledger was first asked, and a process serves nobody before
that. A broker's clock stamps what is appended; it is compared only through what its acknowledgements told.
"""

from __future__ import annotations

import os
import time
from typing import Final

from schemas.clock_estimate import APPEND_MARGIN_MS, STEP_MS, Estimate, Reading
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

ERROR_MAX_MS: Final = 1_000
"""A process whose time may be further off the ledger's is not ready."""
_UNKNOWN_BROKER_MS: Final = 15 * 60 * 1_000
"""How far a broker's clock may be off while nothing is known of it."""


class Clock:
    """The ledger's time for records, monotonic time for waits."""

    _ledger: Estimate | None = None
    _broker: Estimate | None = None
    _broker_ahead_ms: tuple[int, int] = (0, 0)
    """The least and the most that a broker was ahead of the ledger, 0 included."""

    def now_ms(self) -> int:
        """Unix milliseconds as the ledger counts them."""
        if self._ledger is None:
            return self.local_ms()
        return int(self._ledger.at_ms(time.monotonic()))

    def now_ns(self) -> int:
        """The same in nanoseconds, as finely as it is known; for what is shown beside what others measured."""
        if self._ledger is None:
            return time.time_ns()
        return int(self._ledger.at_ms(time.monotonic()) * 1_000_000)

    def local_ms(self) -> int:
        """Unix milliseconds of this machine; for telling how far they are off."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds that never step back."""
        return time.monotonic()

    @property
    def error_ms(self) -> float | None:
        """How far ``now_ms`` may be off the ledger's time; ``None`` until that was read."""
        return None if self._ledger is None else self._ledger.error_at_ms(time.monotonic())

    @property
    def local_ahead_ms(self) -> int:
        """How far this machine's clock is ahead of the ledger's."""
        return self.local_ms() - self.now_ms()

    @property
    def component(self) -> str:
        """Component of readiness: ``ok``, or why its time is not to be trusted."""
        error_ms = self.error_ms
        if error_ms is None:
            return "the ledger's time was not read yet"
        return "ok" if error_ms <= ERROR_MAX_MS else f"may be {error_ms:.0f} ms off the ledger's"

    @property
    def facts(self) -> dict[str, int | None]:
        """What status pages tell of it, in milliseconds."""
        error_ms, ahead_ms = self.error_ms, self.broker_ahead_ms
        return {
            "local_ahead_ms": None if error_ms is None else self.local_ahead_ms,
            "broker_ahead_ms": ahead_ms,
            "error_ms": None if error_ms is None else round(error_ms),
        }

    def learn_ledger(self, reading: Reading) -> None:
        """Take in what the ledger store said its time was."""
        self._ledger = _corrected(self._ledger, reading, "ledger")

    def learn_broker(self, reading: Reading) -> None:
        """Take in when a broker says it appended what was sent and acknowledged between two moments."""
        self._broker = _corrected(self._broker, reading, "broker")
        if (ahead_ms := self.broker_ahead_ms) is not None:
            least_ms, most_ms = self._broker_ahead_ms
            self._broker_ahead_ms = min(least_ms, ahead_ms), max(most_ms, ahead_ms)

    @property
    def broker_ahead_ms(self) -> int | None:
        """How far the broker's clock is ahead of the ledger's; ``None`` until both are known."""
        if self._broker is None or self._ledger is None:
            return None
        now_s = time.monotonic()
        return round(self._broker.at_ms(now_s) - self._ledger.at_ms(now_s))

    def happened_ms(self, appended_at_ms: int) -> int | None:
        """The ledger's time of an append that was read; ``None`` while nothing is known of the broker.

        Never later than now, whatever a broker says whose clock was moved since it was heard of.
        """
        ahead_ms = self.broker_ahead_ms
        return None if ahead_ms is None else min(appended_at_ms - ahead_ms, self.now_ms())

    def appended_span_ms(self, from_ms: int, until_ms: int) -> tuple[int, int]:
        """The append times, first and last, that records of a span of the ledger's time may carry.

        Wide enough for every offset that the broker was seen to have.
        """
        if self.broker_ahead_ms is None:
            return from_ms - _UNKNOWN_BROKER_MS, until_ms + _UNKNOWN_BROKER_MS
        least_ms, most_ms = self._broker_ahead_ms
        return from_ms + least_ms - APPEND_MARGIN_MS, until_ms + most_ms + APPEND_MARGIN_MS


def _corrected(known: Estimate | None, reading: Reading, whose: str) -> Estimate:
    """The estimate after a reading; a step is written to the log."""
    if known is None:
        return Estimate.of(reading)
    now = known.corrected(reading)
    step_ms = now.at_ms(reading.after_s) - known.at_ms(reading.after_s)
    if abs(step_ms) >= STEP_MS:
        _LOG.event(LogEvent.CLOCK_STEPPED, step=whose, step_ms=round(step_ms))
    return now


def random_bytes(count: int) -> bytes:
    """Cryptographically strong random bytes."""
    return os.urandom(count)
