"""Shares of ingress: how many requests of each organization are between accepted and ended here. Pure.

No organization has more than its share. Near the bound of all of them together one may only take as much
as it leaves free for the others, so whoever has most is refused first and a quiet one finds room
(the dynamic threshold of shared-memory switches, Choudhury and Hahne 1998).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.events import Denial

LIMIT_ID: Final = "org:in_flight"
RETRY_MIN_MS: Final = 100
RETRY_MAX_MS: Final = 30_000
_NEAR: Final = 0.75
_NEWEST_WEIGHS: Final = 0.1
"""Of the mean duration of an organization's requests, an exponential one."""


@dataclass(slots=True)
class _Share:
    requests: int = 0
    mean_ms: float = 1_000.0


@dataclass(slots=True)
class Shares:
    """Counts requests; ``enter`` and ``leave`` come in pairs."""

    all_max: int
    org_max: int
    requests: int = 0
    _by_org: dict[str, _Share] = field(default_factory=dict)
    """Of organizations that have keys, so it is as bounded as the configuration."""

    def enter(self, org: str) -> Refusal | None:
        """Count one more request, or tell why it finds no room."""
        share = self._by_org.get(org)
        if share is None:
            share = self._by_org[org] = _Share()
        free = self.all_max - self.requests
        if free <= 0:
            return Refusal(ErrorCode.OVERLOADED, "The gateway is full.")
        limit = self.org_max
        if self.requests >= _NEAR * self.all_max:
            limit = min(limit, free)
        if share.requests >= limit:
            return _refusal(share, limit)
        share.requests += 1
        self.requests += 1
        return None

    def leave(self, org: str, held_ms: float) -> None:
        """A request that had entered has ended, ``held_ms`` later."""
        share = self._by_org[org]
        share.requests -= 1
        share.mean_ms += _NEWEST_WEIGHS * (held_ms - share.mean_ms)
        self.requests -= 1

    def bounds_reached(self) -> dict[str, str]:
        """Bounds at which requests are refused now, and how they are reached."""
        full = sum(share.requests >= self.org_max for share in self._by_org.values())
        reached = {}
        if self.requests >= self.all_max:
            reached["inflight_max"] = f"{self.requests} requests"
        if full:
            reached["org_inflight_max"] = f"{full} organizations at {self.org_max} requests"
        return reached


def _refusal(share: _Share, limit: int) -> Refusal:
    # Within one mean duration as many requests end as there are now.
    retry_after_ms = min(max(round(share.mean_ms), RETRY_MIN_MS), RETRY_MAX_MS)
    denial = Denial(
        limit_id=LIMIT_ID,
        limit_type="rate_limit",
        unit="requests",
        current_usage=share.requests,
        limit=limit,
        retry_after_ms=retry_after_ms,
    )
    message = f"Rate limit reached: {LIMIT_ID}"
    return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message, denial=denial)
