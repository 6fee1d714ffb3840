"""Silences: who does not answer, and for how long, told by questions that are asked again and again.

Each question is given a second, so that one that hangs delays no other; nobody waits for the answer to learn
how things stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.failures import Transient
from schemas.readiness import OK
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import StoreError

Question = Callable[[], Awaitable[Any]]

_ANSWER_WITHIN_S: Final = 1.0
_UNANSWERED: Final = (Transient, StoreError, TimeoutError)


@dataclass(slots=True)
class Silences:
    """The silences of whom one process asks, by name."""

    clock: Clock
    _since_s: dict[str, float] = field(default_factory=dict)

    async def ask(self, name: str, question: Question) -> Any:
        """The answer; ``None`` when there was none in time."""
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                answer = await question()
        except _UNANSWERED:
            self._since_s.setdefault(name, self.clock.monotonic_s())
            return None
        self._since_s.pop(name, None)
        return answer

    def silence_s(self, name: str) -> float:
        """For how long it has not answered; 0 when it does, or was never asked."""
        since_s = self._since_s.get(name)
        return 0.0 if since_s is None else self.clock.monotonic_s() - since_s

    def component(self, name: str, *, is_connected: bool) -> str:
        """The state of a component of readiness."""
        if not is_connected:
            return "not connected"
        silence_s = self.silence_s(name)
        return f"no answer for {silence_s:.0f} s" if silence_s else OK
