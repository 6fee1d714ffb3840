"""Turns of large bodies: one at a time goes from its parsing to the log, organizations in turn.

Whatever handles a body of megabytes, ingress, broker, limiter or dispatcher, does nothing else for some ten milliseconds.
Several at once would add up in front of everybody else; in turns, with a rest after each, the others have their
moment in between. A turn ends by itself after a second, so that one body whose way is blocked blocks no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ingress.gatekeeper.turn import came_in_time
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.fair_queue import FairQueue

LARGE_BODY_BYTES: Final = 1024 * 1024
"""Less is handled within a few milliseconds and needs no turn."""
WAIT_S: Final = 5.0
TURN_S: Final = 1.0
_REST_PER_WORK: Final = 1.0
_REST_MAX_S: Final = 0.2
_RETRY_MS: Final = 5_000


class LargeTurns:
    """``take`` waits for a turn, and what it gives ends it; it may be called twice."""

    def __init__(self) -> None:
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue(LARGE_BODY_BYTES)
        self._is_free = True

    async def take(self, org: str, size: int) -> Callable[[], None] | Refusal:
        """A turn for a body of an organization; refused when it does not come in time."""
        if not self._is_free and not await self._wait(org, size):
            message = "Too many large bodies are before this one."
            return Refusal(ErrorCode.OVERLOADED, message, retry_after_ms=_RETRY_MS)
        self._is_free = False
        return _Turn(self._next).end

    async def _wait(self, org: str, size: int) -> bool:
        """Whether the turn came in time."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.push(org, size, turn)
        return await came_in_time(turn, WAIT_S, self._next, turn.cancel)

    def _next(self) -> None:
        """Give the turn to who waits for it, or leave it free."""
        while (turn := self._waiting.pop()) is not None:
            if not turn.done():
                turn.set_result(None)
                return
        self._is_free = True


class _Turn:
    """One turn; ended by who has it, or by its time."""

    def __init__(self, rested: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._rested, self._begun_s = rested, loop.time()
        self._is_over = loop.call_later(TURN_S, self.end)
        self._has_ended = False

    def end(self) -> None:
        """Rest, then let the next one in."""
        if self._has_ended:
            return
        self._has_ended = True
        self._is_over.cancel()
        loop = asyncio.get_running_loop()
        worked_s = loop.time() - self._begun_s
        loop.call_later(min(_REST_PER_WORK * worked_s, _REST_MAX_S), self._rested)
