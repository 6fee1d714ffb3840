"""What a reading of limits finds in the ledger, and what is left of each by it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.ledger.documents import Rate


class BalanceReading(NamedTuple):
    """A balance as it stands, in its unit."""

    settled: int
    held: int
    """Reserved for requests under way; what restored ones hold once more is among it."""


class LimitReadings(NamedTuple):
    """Buckets, leases and balances of one organization at one instant, each in the order in which it was asked."""

    now_us: int
    """The ledger's time."""
    buckets: Sequence[tuple[int, int]]
    """Theoretical arrival times as they are stored: µs, and the part; (0, 0) of a full bucket."""
    leases: Sequence[int]
    """How many are taken."""
    balances: Sequence[BalanceReading]


class RateReading(NamedTuple):
    """A bucket as it stands."""

    used: int
    """Units that it lacks, at most its burst."""
    full_ms: int
    """When it is full again, in Unix milliseconds."""


def read_rate(rate: Rate, bucket: tuple[int, int], now_us: int) -> RateReading:
    """What the bucket of a rate lacks now (``rates.lua``)."""
    until_us, part = bucket
    ahead_us = max(0, until_us - now_us)
    if ahead_us == 0:
        return RateReading(0, now_us // 1000)
    flow = rate.rate_milli_per_s
    lacking = -(-(ahead_us * flow + part % flow) // 10**9)
    used = min(rate.burst, lacking)
    full_us = now_us + min(ahead_us, -(-rate.burst * 10**9 // flow))
    return RateReading(used, -(-full_us // 1000))
