"""Local token buckets: what one ingress lets pass of a key or an organization before the log. Pure.

They are wider than the limits they stand for and only keep a flood out of the log; the ledger decides.
Stored as theoretical arrival times (GCRA), like the ledger's own. What is told to whoever is refused is
when the *ledger* has room, as far as it is known here, each a turn of its own, so that a crowd of retries
does not come back at once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

_TOLD_AHEAD_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit: units a second, and how many may come at once.

    ``widened`` times both pass here; of those that come at once, ``waiting`` more.
    """

    per_s: float
    burst: float
    widened: float = 1.0
    waiting: int = 0

    @property
    def burst_here(self) -> float:
        """How many may come at once here."""
        return self.widened * self.burst + self.waiting


@dataclass(slots=True)
class _State:
    """Theoretical arrival times, in seconds: here, and as the ledger's is known."""

    here_s: float
    ledger_s: float
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
        here_per_s, here = bucket.widened * bucket.per_s, bucket.burst_here
        here_at_s = max(state.here_s, now_s) + (min(cost, here) - here) / here_per_s
        if here_at_s <= now_s:
            return 0.0
        cost = min(cost, bucket.burst)
        ledger_at_s = max(state.ledger_s, now_s) + (cost - bucket.burst) / bucket.per_s
        free_at_s = max(here_at_s, ledger_at_s)
        turn_s = max(free_at_s, state.told_s + cost / bucket.per_s)
        state.told_s = min(turn_s, max(free_at_s, now_s + _TOLD_AHEAD_MAX_S))
        return state.told_s - now_s

    def take(self, name: str, bucket: Bucket, cost: float, now_s: float) -> None:
        """Take ``cost`` units, whether they are there or not; the ledger will if it has them."""
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = _State(now_s, now_s)
            if len(self._states) > self.names_max:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(name)
        state.here_s = max(state.here_s, now_s) + cost / (bucket.widened * bucket.per_s)
        ledger_s = max(state.ledger_s, now_s) + cost / bucket.per_s
        if ledger_s - now_s <= bucket.burst / bucket.per_s:
            state.ledger_s = ledger_s

    def learn(self, name: str, bucket: Bucket, retry_after_s: float, now_s: float) -> None:
        """The ledger refused one unit, and said when it will have one again."""
        state = self._states.get(name)
        if state is not None:
            free_s = now_s + retry_after_s
            state.ledger_s = max(state.ledger_s, free_s + (bucket.burst - 1) / bucket.per_s)
