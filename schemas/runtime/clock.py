"""The one place that reads time and randomness; everything else is handed their values."""

from __future__ import annotations

import os
import time


class Clock:
    """Wall time for records, monotonic time for waits."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds that never step back."""
        return time.monotonic()


def random_bytes(count: int) -> bytes:
    """Cryptographically strong random bytes."""
    return os.urandom(count)
