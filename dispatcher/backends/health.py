"""What is known of one backend: what probes found, and what calls did. Pure.

An open breaker forbids calls. Failing probes only put a backend last: it is called while no other is
left, because a backend that answers no probe may still answer calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from dispatcher.backends.breaker import Breaker, CallEnd

IN_A_ROW: Final = 2
"""Probes of one kind that turn the verdict."""

HealthState: TypeAlias = Literal["healthy", "unhealthy", "open", "half_open"]


class Probes(msgspec.Struct, frozen=True):
    """The verdict of the probes; a backend counts as alive until proven otherwise."""

    is_alive: bool = True
    against: int = 0
    """Probes in a row that contradict the verdict."""

    def seen(self, *, answered: bool) -> Probes:
        """One more probe."""
        if answered == self.is_alive:
            return Probes(self.is_alive)
        if self.against + 1 >= IN_A_ROW:
            return Probes(answered)
        return Probes(self.is_alive, self.against + 1)


class Health(msgspec.Struct, frozen=True):
    """Breaker and probes of one backend."""

    breaker: Breaker = msgspec.field(default_factory=Breaker)
    probes: Probes = msgspec.field(default_factory=Probes)

    def state(self, now_s: float) -> HealthState:
        """The worse of both."""
        match self.breaker.state(now_s):
            case "closed":
                return "healthy" if self.probes.is_alive else "unhealthy"
            case broken:
                return broken

    def probed(self, now_s: float, *, answered: bool) -> Health:
        """One more probe. A backend that answers can be reached, so an idle one is not called broken for ever."""
        breaker = self.breaker.reached(now_s) if answered else self.breaker
        return replace(self, breaker=breaker, probes=self.probes.seen(answered=answered))

    def begun(self, now_s: float) -> tuple[Health, bool]:
        """A call begins; whether it is the breaker's trial."""
        breaker, is_trial = self.breaker.begun(now_s)
        return replace(self, breaker=breaker), is_trial

    def ended(self, now_s: float, end: CallEnd, *, is_trial: bool) -> Health:
        """A call ended."""
        return replace(self, breaker=self.breaker.ended(now_s, end, is_trial=is_trial))


def overall(health: Health, models: Iterable[Breaker], now_s: float) -> HealthState:
    """The state of a backend whose models have breakers of their own: it is broken only when none
    of the models that were called lately may be called."""
    own = health.state(now_s)
    called = {breaker.state(now_s) for breaker in models if breaker.has_spoken(now_s)}
    if own in {"open", "half_open"} or not called or "closed" in called:
        return own
    return "open" if "open" in called else "half_open"
