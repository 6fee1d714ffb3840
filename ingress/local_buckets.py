"""Local token buckets: what one ingress lets pass of a key or an organization before the log. Pure.

They are wider than the ledger's limits and only keep a flood out of the log; the ledger decides. Stored
as the theoretical arrival time (GCRA), like the ledger's own. Whoever is refused is told a turn of
its own, so that a crowd of retries does not come back at once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

_TOLD_AHEAD_MAX_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """Units a second, and how many may come at once."""

    per_s: float
    burst: float


@dataclass(slots=True)
class _State:
    full_at_s: float
    """When the bucket is full again: the theoretical arrival time."""
    told_s: float = 0.0
    """The latest turn that somebody was told."""


@dataclass(slots=True)
class LocalBuckets:
    """Buckets by name; the one not used for longest makes room, since it is the fullest."""

    names_max: int = 20_000
    _states: OrderedDict[str, _State] = field(default_factory=OrderedDict)

    def wait_s(self, name: str, bucket: Bucket, cost: float, now_s: float) -> float:
        """Seconds until ``cost`` units can be had; 0 when they can now. Takes nothing."""
        state = self._states.get(name)
        if state is None:
            return 0.0
        interval_s = min(cost, bucket.burst) / bucket.per_s
        free_at_s = max(state.full_at_s, now_s) + interval_s - bucket.burst / bucket.per_s
        if free_at_s <= now_s:
            return 0.0
        turn_s = max(free_at_s, state.told_s + interval_s)
        state.told_s = min(turn_s, now_s + _TOLD_AHEAD_MAX_S)
        return state.told_s - now_s

    def take(self, name: str, bucket: Bucket, cost: float, now_s: float) -> None:
        """Take ``cost`` units, whether they are there or not."""
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = _State(now_s)
            if len(self._states) > self.names_max:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(name)
        state.full_at_s = max(state.full_at_s, now_s) + cost / bucket.per_s
