"""The throttle: refuses at the door what the dispatchers would only refuse behind the log. Pure.

Adaptive throttling of Google's SRE book (chapter 21), for each organization and model: of the requests of
the last five seconds twice as many pass as were served. Only answers count, because a long call that runs
is no sign of overload; nothing is kept of those that were never told OVERLOADED.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ingress.http.refusals import Refusal
from schemas.errors import ERRORS, RETRY_HINT_MAX_MS, RETRY_HINT_MIN_MS, ErrorCode

WINDOW_S: Final = 5
_PASSED_PER_SERVED: Final = 2
_ENTRIES_MAX: Final = 10_000
_RETRY_DEFAULT_MS: Final = ERRORS[ErrorCode.OVERLOADED].retry_after_ms or 1_000

Whose: TypeAlias = tuple[str, str]
"""Organization and model."""


@dataclass(slots=True)
class _Second:
    second: int
    answered: int = 0
    served: int = 0


@dataclass(slots=True)
class _Window:
    """Answers of the last five seconds, and the last hint when to come back."""

    retry_after_ms: int
    seconds: deque[_Second] = field(default_factory=deque)
    answered: int = 0
    served: int = 0

    def add(self, now_s: float, *, is_served: bool) -> None:
        second = int(now_s)
        if not self.seconds or self.seconds[-1].second != second:
            self.seconds.append(_Second(second))
        last = self.seconds[-1]
        last.answered += 1
        last.served += is_served
        self.answered += 1
        self.served += is_served

    def forget(self, now_s: float) -> None:
        while self.seconds and self.seconds[0].second <= now_s - WINDOW_S:
            old = self.seconds.popleft()
            self.answered -= old.answered
            self.served -= old.served

    def refused_share(self) -> float:
        excess = self.answered - _PASSED_PER_SERVED * self.served
        return max(0.0, excess / (self.answered + 1))


@dataclass(slots=True)
class Throttle:
    """Windows of those that met OVERLOADED lately."""

    windows: OrderedDict[Whose, _Window] = field(default_factory=OrderedDict)

    def refusal_of(self, whose: Whose, now_s: float, draw: float) -> Refusal | None:
        """A refusal for the share of requests that is too much; ``draw`` is uniform in [0, 1)."""
        window = self.windows.get(whose)
        if window is None:
            return None
        window.forget(now_s)
        if not window.answered:
            del self.windows[whose]
            return None
        if draw >= window.refused_share():
            return None
        window.add(now_s, is_served=False)
        message = "The backends of this model are overloaded."
        return Refusal(ErrorCode.OVERLOADED, message, retry_after_ms=window.retry_after_ms)

    def note(self, whose: Whose, refusal: Refusal | None, now_s: float) -> None:
        """How a request was answered; ``None`` when it was no refusal."""
        is_overloaded = refusal is not None and refusal.code is ErrorCode.OVERLOADED
        window = self.windows.get(whose)
        if window is None:
            if not is_overloaded:
                return
            window = self.windows[whose] = _Window(_RETRY_DEFAULT_MS)
            if len(self.windows) > _ENTRIES_MAX:
                self.windows.popitem(last=False)
        if refusal is not None and is_overloaded:
            hint_ms = refusal.retry_after_ms or _RETRY_DEFAULT_MS
            window.retry_after_ms = min(max(hint_ms, RETRY_HINT_MIN_MS), RETRY_HINT_MAX_MS)
            self.windows.move_to_end(whose)
        window.add(now_s, is_served=not is_overloaded)
