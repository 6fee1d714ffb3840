"""Which verdicts hold, and when the budget service is asked again: a cache with a breaker. Pure.

Times are monotonic seconds. A key whose question failed waits no more: the policy holds for it until an answer comes to
a question that nobody waits for. After three failures in a row that is so for the whole organization, which asks one
question at a time then.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from limiter_worker.external_budget.verdicts import Verdict, by_policy
from schemas.entities import BudgetService

__all__ = ["ASK", "Standing", "Unanswered", "Who"]

Who: TypeAlias = tuple[str, str]
"""Organization and key."""

KNOWN_MAX: Final = 65_536
_FAILURES_MAX: Final = 3
_PAUSE_FIRST_S: Final = 1.0
_PAUSE_MAX_S: Final = 8.0
_FORGOTTEN_S: Final = 60.0
"""After a question was due for so long and nobody asked it."""

ASK: Final = "ask"
"""Nobody knows: the request waits for an answer."""


class Unanswered(NamedTuple):
    """The service does not answer: what holds, and whether a question is due that nobody waits for."""

    verdict: Verdict
    is_due: bool


@dataclass(slots=True)
class _Known:
    last: Verdict | None = None
    fresh_until_s: float = 0.0
    has_failed: bool = False
    again_s: float = 0.0


@dataclass(slots=True)
class _Silence:
    """Failures of an organization's questions since the last answer."""

    failures: int = 0
    again_s: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.failures >= _FAILURES_MAX


@dataclass(slots=True)
class Standing:
    """What is known of organizations' keys; of 65 536 keys, those that asked last."""

    _known: OrderedDict[Who, _Known] = field(default_factory=OrderedDict)
    _silent: dict[str, _Silence] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._known)

    def silent(self, now_s: float) -> int:
        """How many organizations' last question had no answer; those that ask no more are forgotten."""
        for org in [o for o, each in self._silent.items() if each.again_s + _FORGOTTEN_S < now_s]:
            del self._silent[org]
        return len(self._silent)

    def look(
        self, who: Who, stated: BudgetService, now_s: float
    ) -> Verdict | Unanswered | Literal["ask"]:
        """What holds for a request now."""
        known = self._known.get(who)
        if known is not None and now_s < known.fresh_until_s:
            assert known.last is not None, "only answers are fresh"
            return known.last.again("cached")
        silence = self._silent.get(who[0])
        if silence is not None and silence.is_open:
            due_s = silence.again_s
        elif known is not None and known.has_failed:
            due_s = known.again_s
        else:
            return ASK
        return Unanswered(self.policy(who, stated), now_s >= due_s)

    def policy(self, who: Who, stated: BudgetService) -> Verdict:
        """What holds without an answer."""
        known = self._known.get(who)
        return by_policy(stated, who[1], None if known is None else known.last)

    def asking(self, who: Who, now_s: float) -> None:
        """A question goes out: another one that nobody waits for is not due before its pause."""
        if silence := self._silent.get(who[0]):
            silence.again_s = now_s + _pause_s(silence.failures)
        if known := self._known.get(who):
            known.again_s = now_s + _PAUSE_FIRST_S

    def answered(self, who: Who, verdict: Verdict, valid_s: float, now_s: float) -> bool:
        """An answer; whether it is the organization's first after silence."""
        known = self._of(who)
        known.last, known.fresh_until_s, known.has_failed = verdict, now_s + valid_s, False
        return self._silent.pop(who[0], None) is not None

    def failed(self, who: Who, now_s: float) -> bool:
        """A question without an answer; whether it is the organization's first."""
        known = self._of(who)
        known.has_failed, known.again_s = True, now_s + _PAUSE_FIRST_S
        silence = self._silent.setdefault(who[0], _Silence())
        silence.failures += 1
        silence.again_s = now_s + _pause_s(silence.failures)
        return silence.failures == 1

    def _of(self, who: Who) -> _Known:
        known = self._known.get(who)
        if known is None:
            known = self._known[who] = _Known()
            while len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end(who)
        return known


def _pause_s(failures: int) -> float:
    """Between questions that nobody waits for: a second, and longer the longer it lasts."""
    doubled = max(0, min(failures - _FAILURES_MAX, 8))
    return min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0**doubled)
