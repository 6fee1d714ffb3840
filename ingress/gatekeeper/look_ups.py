"""The rate of look-ups: of all that a caller asks beside requests to models, such as jobs, usage, files and their changes.

A look-up is bounded by what it reads, but its answer costs ingress about as much as that of a request; a client that asks
again without a pause takes the time of everybody's. So a refusal is told only when the next may come, or after a second:
who waits for it asks no sooner than who heeds it. The bucket is an organization's, because neighbours are organizations:
keys are made for nothing.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final

from ingress.gatekeeper.local_limits import Bucket, Limit, LocalBuckets, rate_refusal
from ingress.http.refusals import Refusal

__all__ = ["LookUps"]

_BURST_S: Final = 2
"""How many seconds' worth may come at once."""
_HELD_S_MAX: Final = 1.0
_HELD_MAX: Final = 1_024
"""Refusals that are held at once; more are told at once."""
_LIMIT_ID: Final = "org:look_ups_per_s"


@dataclass(slots=True)
class LookUps:
    """The look-ups of each organization in this process."""

    per_s: float
    _buckets: LocalBuckets = field(default_factory=LocalBuckets)
    _bucket: Bucket = field(init=False)
    _held: int = 0

    def __post_init__(self) -> None:
        """One bucket is like another."""
        self._bucket = Bucket(self.per_s, max(1, math.ceil(_BURST_S * self.per_s)))

    def wait_s(self, org: str, now_s: float) -> float:
        """Charge a look-up and return 0, or else in how many seconds the next may come."""
        wait_s = self._buckets.wait_s(org, self._bucket, 1, now_s)
        if not wait_s:
            self._buckets.take(org, self._bucket, 1, now_s)
        return wait_s

    async def refusal(self, wait_s: float) -> Refusal:
        """The refusal of one that came too soon, once it is time to tell it."""
        held_s = min(wait_s, _HELD_S_MAX) if self._held < _HELD_MAX else 0.0
        self._held += 1
        try:
            await asyncio.sleep(held_s)
        finally:
            self._held -= 1
        return rate_refusal(Limit("", _LIMIT_ID, "requests", self._bucket), wait_s - held_s)
