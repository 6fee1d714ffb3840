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
    "ledger.p99": Goal("decision of the ledger, p99 of the slowest function", "ms", at_most=1),
}
"""The only list of goals, by the scenario that measures each."""
