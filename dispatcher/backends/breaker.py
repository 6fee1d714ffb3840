"""The circuit breaker of one backend: a frozen value that time and ended calls move on. Pure.

Closed, it counts; open, nobody may call; half open, exactly one call is on trial. Times are monotonic
seconds. An open breaker closes through a trial, through a connection of somebody else if it judges only those, or when
it was silence that opened it and a call that was silent for long succeeds after all: then the backend is slow, not gone.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

OPEN_S: Final = 5.0
_WINDOW_S: Final = 10
_CALLS_MIN: Final = 20
_UNREACHABLE_MAX: Final = 5

State: TypeAlias = Literal["closed", "open", "half_open"]
CallEnd: TypeAlias = Literal["succeeded", "failed", "unreachable", "undecided"]
"""What a call says of its backend. ``unreachable``: no connection came about; ``undecided``: it was
ended by the client or by us."""


class _Second(msgspec.Struct, frozen=True):
    at_s: int
    calls: int
    failures: int


class Breaker(msgspec.Struct, frozen=True):
    """The state between two calls."""

    opened_at_s: float | None = None
    was_silence: bool = False
    """Whether calls that hang opened it."""
    is_on_trial: bool = False
    unreachable: int = 0
    """Connections that failed in a row."""
    window: tuple[_Second, ...] = ()
    """Calls that ended in the last ten seconds, by second."""

    def state(self, now_s: float) -> State:
        """Where it stands now."""
        if self.opened_at_s is None:
            return "closed"
        return "open" if now_s < self.opened_at_s + OPEN_S else "half_open"

    def admits(self, now_s: float) -> bool:
        """Whether a call may begin now."""
        state = self.state(now_s)
        return state == "closed" or (state == "half_open" and not self.is_on_trial)

    def begun(self, now_s: float) -> tuple[Breaker, bool]:
        """A call that was admitted begins; whether it is the trial."""
        is_trial = self.state(now_s) == "half_open"
        return (replace(self, is_on_trial=True) if is_trial else self), is_trial

    def ended(self, now_s: float, end: CallEnd, *, is_trial: bool) -> Breaker:
        """A call ended. What began before the breaker opened no longer decides anything."""
        if is_trial:
            return self._tried(now_s, end)
        if self.opened_at_s is not None or end == "undecided":
            return self
        counted = replace(
            self,
            unreachable=self.unreachable + 1 if end == "unreachable" else 0,
            window=_counted(self.window, int(now_s), has_failed=end != "succeeded"),
        )
        return Breaker(opened_at_s=now_s) if counted.is_broken else counted

    def hung(self, now_s: float, *, is_trial: bool) -> Breaker:
        """A call under way is silent for too long: it counts as failed while it still hangs."""
        if is_trial:
            return Breaker(opened_at_s=now_s, was_silence=True)
        after = self.ended(now_s, "failed", is_trial=False)
        return replace(after, was_silence=True) if after.opened_at_s == now_s else after

    def woke(self) -> Breaker:
        """A call that counted as failed while it hung succeeded: the failure is taken back."""
        if self.opened_at_s is not None:
            return Breaker() if self.was_silence else self
        forgiven = list(self.window)
        for index, second in enumerate(forgiven):
            if second.failures:
                forgiven[index] = replace(second, failures=second.failures - 1)
                break
        return replace(self, window=tuple(forgiven), unreachable=0)

    def reached(self, now_s: float) -> Breaker:
        """Something else than a call had a connection: where only connections are judged, that is a trial that no
        client has to be."""
        is_due = self.state(now_s) == "half_open" and not self.is_on_trial
        return Breaker() if is_due else self

    def has_spoken(self, now_s: float) -> bool:
        """Whether it is open, or a call ended within its window."""
        recent_s = now_s - _WINDOW_S
        return self.opened_at_s is not None or any(s.at_s > recent_s for s in self.window)

    @property
    def is_broken(self) -> bool:
        """Half of at least twenty calls failed, or five connections in a row."""
        calls = failures = 0
        for second in self.window:
            calls += second.calls
            failures += second.failures
        mostly_fails = calls >= _CALLS_MIN and 2 * failures >= calls
        return mostly_fails or self.unreachable >= _UNREACHABLE_MAX

    def _tried(self, now_s: float, end: CallEnd) -> Breaker:
        if end == "undecided":
            return replace(self, is_on_trial=False)
        return Breaker() if end == "succeeded" else Breaker(opened_at_s=now_s)


def _counted(window: tuple[_Second, ...], at_s: int, *, has_failed: bool) -> tuple[_Second, ...]:
    """The window with one more call in its newest second, and without what is too old."""
    if window and window[0].at_s <= at_s - _WINDOW_S:
        window = tuple(second for second in window if second.at_s > at_s - _WINDOW_S)
    if not window or window[-1].at_s != at_s:
        return (*window, _Second(at_s, 1, int(has_failed)))
    last = window[-1]
    return (*window[:-1], _Second(at_s, last.calls + 1, last.failures + has_failed))
