"""Final verdicts: refusals by a spent budget or quota, remembered so that what follows stays out of the log.

Only what cannot change by itself is remembered: not a rate, not CONTENDED, never across a change of the
configuration or the end of a day in UTC, at which every period ends. It holds for requests of the same key
and model that reach the same of its price and ask for at least as much as the refused one, for a second; then one of them is let through
to ask again. Large ones ask less often, so that refused bodies cannot fill the log. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from ingress.http.refusals import Refusal
from schemas.audit import Bounds
from schemas.errors import ErrorCode
from schemas.events import Reach
from schemas.pricing.bound import bound, unpriced
from schemas.pricing.price_list import PriceList

HOLDS_S: Final = 1.0
_ASKING_BYTES_PER_S: Final = 64 * 1024
"""A spent key's requests write no more than that into the log to learn whether it still is."""
_ENTRIES_MAX: Final = 10_000
_FINAL: Final = frozenset({ErrorCode.BUDGET_EXCEEDED, ErrorCode.QUOTA_EXCEEDED})
_FINAL_STATUS: Final = 402
_DAY_MS: Final = 86_400_000

Who: TypeAlias = tuple[str, str]
"""Key and model."""


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for, and under which configuration and when it was received."""

    input_tokens_bound: int
    output_tokens_bound: int
    body_bytes: int
    config_offset: int
    received_at_ms: int
    reach: Reach | None = None
    """What else of its price it can reach: as much of something dearer is more."""

    def bounds(self, prices: PriceList | None) -> Bounds:
        """The most that the request can use, as admission would have computed it."""
        tokens = self.input_tokens_bound, self.output_tokens_bound
        price = None if prices is None else prices.at(self.received_at_ms)
        if price is None or unpriced(price, self.reach):
            return Bounds(*tokens, None)
        return Bounds(*tokens, bound(price, self.reach, *tokens))


@dataclass(slots=True)
class _Verdict:
    refusal: Refusal
    asked: Asked
    asked_at_s: float
    """When a request last asked the ledger, or was told."""

    def covers(self, other: Asked) -> bool:
        """Whether a request that asks for this would be refused as well, had nothing changed."""
        mine = self.asked
        return (
            other.config_offset == mine.config_offset
            and other.received_at_ms // _DAY_MS == mine.received_at_ms // _DAY_MS
            and other.input_tokens_bound >= mine.input_tokens_bound
            and other.output_tokens_bound >= mine.output_tokens_bound
            and other.reach == mine.reach
        )

    def holds(self, other: Asked, now_s: float) -> bool:
        """Whether it is too early for this one to ask for itself."""
        size_s = other.body_bytes / _ASKING_BYTES_PER_S
        return now_s < self.asked_at_s + max(HOLDS_S, size_s)


@dataclass(slots=True)
class FinalVerdicts:
    """The verdicts in force; the one not asked for longest makes room."""

    known: OrderedDict[Who, _Verdict] = field(default_factory=OrderedDict)

    def is_refused(self, who: Who, asked: Asked, now_s: float) -> bool:
        """Whether ``refusal_of`` would refuse."""
        verdict = self.known.get(who)
        return verdict is not None and verdict.covers(asked) and verdict.holds(asked, now_s)

    def refusal_of(self, who: Who, asked: Asked, now_s: float) -> Refusal | None:
        """The refusal that the request would meet; ``None`` when it shall ask for itself."""
        verdict = self.known.get(who)
        if verdict is None or not verdict.covers(asked):
            return None
        if verdict.holds(asked, now_s):
            return verdict.refusal
        # This one asks again; those that come while it does are answered as before.
        verdict.asked_at_s = now_s
        self.known.move_to_end(who)
        return None

    def note(self, who: Who, asked: Asked, refusal: Refusal | None, now_s: float) -> None:
        """What the ledger said to a request; ``None`` when it was not refused."""
        known = self.known.get(who)
        is_known = known is not None and known.covers(asked)
        if refusal is None and is_known:
            del self.known[who]
        if refusal is None or not is_final(refusal):
            return
        if known is not None and is_known:
            # What is spent for less is spent for this; the other way round it would be a guess.
            asked = known.asked
        self.known[who] = _Verdict(refusal, asked, now_s)
        self.known.move_to_end(who)
        if len(self.known) > _ENTRIES_MAX:
            self.known.popitem(last=False)


def is_final(refusal: Refusal | None) -> bool:
    """Whether it is by a budget or quota that is spent, and not merely held up."""
    return refusal is not None and refusal.code in _FINAL and refusal.status == _FINAL_STATUS
