"""How far a worker is behind the log, in records and in seconds, from what it and its consumer know already.

The age of a record that was not read yet is that of the newest one read before it, at most: nobody asks a broker for it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.runtime.kafka.consume.ack_window import AckWindow, Partition

__all__ = ["Lag", "lag_of"]


@dataclass(frozen=True, slots=True)
class Lag:
    """What of a topic's partitions here is not ended."""

    records: int
    age_s: float
    """Of the oldest of them, by the time it was appended."""


def lag_of(window: AckWindow, partitions: Mapping[Partition, int], now_ms: int) -> Lag:
    """The lag of one topic; ``partitions`` are those that this process owns, with how many records each has that
    were not read yet."""
    records, oldest_ms = 0, now_ms
    for partition, unread in partitions.items():
        taken = window.load_of(partition).records
        records += taken + unread
        if taken:
            oldest_ms = min(oldest_ms, window.oldest_appended_ms(partition))
        elif unread and (newest_ms := window.newest_appended_ms(partition)):
            oldest_ms = min(oldest_ms, newest_ms)
    return Lag(records, max(0, now_ms - oldest_ms) / 1_000)
