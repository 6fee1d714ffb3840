"""Scouts: of many large requests that come at once, the first one learns whether there is money left. Pure.

The others wait for its verdict, two seconds at most, and only where a budget or quota applies; so a spent
key writes one large body into the log and not all that were under way. For a while after that nobody waits.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ingress.gatekeeper.final_verdicts import Who

LARGE_BYTES: Final = 1024 * 1024
SCOUTS_FOR_S: Final = 2.0
WELL_FOR_S: Final = 5.0
_ENTRIES_MAX: Final = 10_000


@dataclass(slots=True)
class Scouts:
    """Until when the others wait, by key and model; for five seconds after that nobody does."""

    free_at_s: OrderedDict[Who, float] = field(default_factory=OrderedDict)

    def may_go(self, who: Who, now_s: float) -> bool:
        """Whether a large request goes now; the first one does, as the scout."""
        free_at_s = self.free_at_s.get(who)
        if free_at_s is not None and now_s < free_at_s + WELL_FOR_S:
            return now_s >= free_at_s
        self.free_at_s[who] = now_s + SCOUTS_FOR_S
        self.free_at_s.move_to_end(who)
        if len(self.free_at_s) > _ENTRIES_MAX:
            self.free_at_s.popitem(last=False)
        return True

    def note(self, who: Who, now_s: float, *, is_spent: bool) -> None:
        """How a request was answered; after a final verdict the next one is a scout again."""
        free_at_s = self.free_at_s.get(who)
        if free_at_s is None:
            return
        if is_spent:
            del self.free_at_s[who]
        else:
            self.free_at_s[who] = min(free_at_s, now_s)
