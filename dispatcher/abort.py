"""Lets others end a call under way, saying why.

A backend that has begun to answer gets a little time and room to finish, so that what is booked is its
own count; one that has not is left at once. Only the first reason counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from dispatcher.work import AbortReason


@dataclass(frozen=True, slots=True)
class DrainCap:
    """How much of an answer is still read once nobody wants it."""

    max_s: float
    max_bytes: int


def _nothing() -> None:
    """What happens at a first byte that nobody waits for."""


class Abort(msgspec.Struct, eq=False):
    """The handle of one call, or of one after the other."""

    cap: DrainCap
    reason: AbortReason | None = None
    on_answer: Callable[[], None] = _nothing
    """Told when the backend begins to answer the call under way."""
    _scope: asyncio.Timeout | None = None
    _has_answered: bool = False
    _drained_bytes: int = 0

    def watch(self, scope: asyncio.Timeout) -> None:
        """A call runs inside this scope from now on."""
        self._scope, self._has_answered = scope, False
        if self.reason is not None:
            self._shorten(scope)

    def unwatch(self) -> None:
        """The call is over; ending it has no effect any more."""
        self._scope = None

    def answered(self) -> None:
        """The backend has begun to answer."""
        self._has_answered = True
        self.on_answer()

    def moved_on(self, until_s: float, precision_s: float) -> None:
        """The call made progress: it may go on until then (loop time), unless somebody ends it.

        A change below the precision is not worth a new timer: the call ends so much earlier at most.
        """
        if self.reason is not None or self._scope is None or self._scope.expired():
            return
        ends_at_s = self._scope.when()
        if ends_at_s is not None and until_s - ends_at_s > precision_s:
            self._scope.reschedule(until_s)

    def ends_at(self, until_s: float) -> None:
        """The call may go on until then (loop time), sooner or later than before, unless somebody ends it."""
        if self.reason is None and self._scope is not None and not self._scope.expired():
            self._scope.reschedule(until_s)

    def end(self, reason: AbortReason) -> None:
        """End the call, at once or as soon as the cap is reached."""
        if self.reason is None:
            self.reason = reason
            if self._scope is not None:
                self._shorten(self._scope)

    def is_drained(self, received_bytes: int) -> bool:
        """Whether the bytes just received were the last that may be read."""
        if self.reason is not None:
            self._drained_bytes += received_bytes
        return self._drained_bytes > self.cap.max_bytes

    def _shorten(self, scope: asyncio.Timeout) -> None:
        ends_at_s = scope.when()
        if ends_at_s is None or scope.expired():
            return
        left_s = self.cap.max_s if self._has_answered else 0.0
        scope.reschedule(min(ends_at_s, asyncio.get_running_loop().time() + left_s))
