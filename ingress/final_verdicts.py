"""Final verdicts: refusals by a spent budget or quota, remembered so that what follows stays out of the log.

Only what cannot change by itself is remembered: not a rate, not CONTENDED, never across a change of the
configuration or the end of a day in UTC, at which every period ends. It holds for requests of the same key
and model that ask for at least as much as the refused one, for a second; then one of them is let through
to ask again. Large ones ask less often, so that refused bodies cannot fill the log. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ingress.chat import Call
from ingress.refusals import Refusal
from schemas.errors import ErrorCode

HOLDS_S: Final = 1.0
_ASKING_BYTES_PER_S: Final = 64 * 1024
"""A spent key writes no more than that into the log to learn whether it still is."""
_ENTRIES_MAX: Final = 10_000
_FINAL: Final = frozenset({ErrorCode.BUDGET_EXCEEDED, ErrorCode.QUOTA_EXCEEDED})
_FINAL_STATUS: Final = 402
_DAY_MS: Final = 86_400_000

Who: TypeAlias = tuple[str, str]
"""Key and model."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, and under which configuration and when it was received."""

    call: Call
    config_offset: int
    received_at_ms: int


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
            and other.call.input_tokens_bound >= mine.call.input_tokens_bound
            and other.call.output_tokens_bound >= mine.call.output_tokens_bound
        )


@dataclass(slots=True)
class FinalVerdicts:
    """The verdicts in force; the one not asked for longest makes room."""

    _verdicts: OrderedDict[Who, _Verdict] = field(default_factory=OrderedDict)

    def refusal_of(self, who: Who, asked: Asked, now_s: float) -> Refusal | None:
        """The refusal that the request would meet; ``None`` when it shall ask for itself."""
        verdict = self._verdicts.get(who)
        if verdict is None or not verdict.covers(asked):
            return None
        if now_s < verdict.asked_at_s + _holds_s(asked):
            return verdict.refusal
        # This one asks again; those that come while it does are answered as before.
        verdict.asked_at_s = now_s
        self._verdicts.move_to_end(who)
        return None

    def note(self, who: Who, asked: Asked, refusal: Refusal | None, now_s: float) -> None:
        """What the ledger said to a request; ``None`` when it was not refused."""
        known = self._verdicts.get(who)
        is_known = known is not None and known.covers(asked)
        if refusal is None and is_known:
            del self._verdicts[who]
        if refusal is None or refusal.code not in _FINAL or refusal.status != _FINAL_STATUS:
            return
        if known is not None and is_known:
            # What is spent for less is spent for this; the other way round it would be a guess.
            asked = known.asked
        self._verdicts[who] = _Verdict(refusal, asked, now_s)
        self._verdicts.move_to_end(who)
        if len(self._verdicts) > _ENTRIES_MAX:
            self._verdicts.popitem(last=False)


def _holds_s(asked: Asked) -> float:
    return max(HOLDS_S, asked.call.input_tokens_bound / _ASKING_BYTES_PER_S)
