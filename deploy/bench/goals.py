"""The goals that measurements are held against, on two cores shared by everything. Pure.

Durability and exact budgets are on: acks=all, an append-only file that is synced always. The figures are those of the
plan; a machine that is slower misses them, and a miss is told and no failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be: at least, or at most, its bound."""

    about: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether the value is within the bound."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is None or value <= self.at_most

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"


GOALS: Final[Mapping[str, Goal]] = {
    "closed.rate": Goal("sustained, closed loop of 64", "requests/s", at_least=1_000),
    "closed.cpu": Goal("CPU per request, our processes together", "ms", at_most=1.0),
    "closed.stores_cpu": Goal("CPU per request, broker and stores", "ms", at_most=0.65),
    "open.p50": Goal("added latency at 50/s, p50", "ms", at_most=5),
    "open.p99": Goal("added latency at 50/s, p99", "ms", at_most=12),
    "streams.p50": Goal("added time to first token at 50/s, p50", "ms", at_most=6),
    "relay.tokens": Goal("relayed over all streams", "tokens/s", at_least=30_000),
    "bodies.first": Goal(
        "p99 to first token of 200 small streams, beside 32 bodies of 4 MB", "ms more", at_most=10
    ),
    "bodies.log": Goal("bytes in the log for each byte of a body", "", at_most=1.05),
    "growth.orgs": Goal("cost per request at 10 000 organizations, against 10", "x", at_most=1.1),
    "growth.keys": Goal("cost per request at 100 000 keys, against 10", "x", at_most=1.1),
    "tenants.added": Goal("200 organizations at 60 % of the peak, added p95", "ms", at_most=150),
    "tenants.total": Goal("200 organizations at 60 % of the peak, total p95", "ms", at_most=400),
    "overload.unstated": Goal(
        "answers at 2 000/s that are neither 200 nor a stated 429 or 503", "", at_most=0
    ),
    "overload.recovery": Goal("p99 is normal again after", "s", at_most=10),
    "memory.most": Goal("memory of the largest process after 100 000 requests", "MB", at_most=150),
    "memory.growth": Goal("growth of it over the last half of them", "%", at_most=5),
    "baseline.p95": Goal("a backend of 1.5 s, total p95", "ms", at_most=3_000),
    "baseline.added": Goal("a backend of 1.5 s, added p95", "ms", at_most=150),
    "limits.rate": Goal("calls beside the stated burst", "calls", at_most=0),
    "limits.quota": Goal("calls beside the stated quota", "calls", at_most=0),
    "limits.budget": Goal("calls beside the stated budget", "calls", at_most=0),
    "limits.unstated": Goal("answers that are neither 200 nor a stated refusal", "", at_most=0),
    "limits.neighbour": Goal("refused of an organization without limits beside", "", at_most=0),
    "soak.failed": Goal("answers other than 200", "", at_most=0),
    "soak.memory": Goal("memory of the process that grows most", "MB an hour", at_most=10),
    "soak.descriptors": Goal("files of the process that grows most", "an hour", at_most=10),
    "soak.keys": Goal("keys of the store that grows most", "% an hour", at_most=10),
    "soak.lag": Goal("lag of the workers", "records an hour", at_most=100),
    "ledger.p99": Goal("decision of the ledger, p99 of the slowest function", "ms", at_most=1),
}
"""The only list of goals, by the scenario that measures each."""
