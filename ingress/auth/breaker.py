"""The breaker of a service that identities depend on: one that fails again and again is left alone for a while. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Breaker"]

_FAILURES: Final = 5
_OPEN_S: Final = 2.0


@dataclass(slots=True)
class Breaker:
    """Opens after five failures in a row; one trial every two seconds closes it again. Times are monotonic."""

    failures: int = 0
    trial_at_s: float = 0.0

    def may_ask(self, now_s: float) -> bool:
        """Whether the service may be asked; while it is open, whoever is told so makes the one trial."""
        if self.failures < _FAILURES:
            return True
        if now_s < self.trial_at_s:
            return False
        self.trial_at_s = now_s + _OPEN_S
        return True

    @property
    def is_open(self) -> bool:
        """Whether it is left alone now."""
        return self.failures >= _FAILURES

    def note(self, *, is_ok: bool, now_s: float) -> None:
        """How a question ended."""
        if is_ok:
            self.failures = 0
            return
        self.failures += 1
        if self.failures == _FAILURES:
            self.trial_at_s = now_s + _OPEN_S
