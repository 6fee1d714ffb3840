"""Shares of the few readers of the log: no organization's look-ups make another's slow.

So many look-ups read at once, and of one organization fewer; whoever waits is served in turn by
organization. Who finds too many of its own waiting is told so at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.failures import Transient
from schemas.runtime.kafka.outcome_lookup import READERS

_RETRY_MS: Final = 1_000


class LookupsWait(Transient):
    """As many look-ups of the organization wait as may."""


@dataclass(slots=True)
class ReaderShares:
    """Hands readers out; each is held within ``async with reader(org)``."""

    readers: int = READERS
    org_readers: int = 2
    org_waiting: int = 64
    _running: Counter[str] = field(default_factory=Counter)
    _waiting: dict[str, deque[asyncio.Future[None]]] = field(default_factory=dict)
    """Organizations in the order of their turns, each with those of its look-ups that wait."""

    @asynccontextmanager
    async def reader(self, org: str) -> AsyncIterator[None]:
        """Wait for a reader and hold it; raises ``LookupsWait``."""
        await self._enter(org)
        try:
            yield
        finally:
            self._leave(org)

    async def _enter(self, org: str) -> None:
        line = self._waiting.setdefault(org, deque())
        if len(line) >= self.org_waiting:
            raise LookupsWait(f"{len(line)} look-ups of {org}")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(org, turn)
            else:
                self._leave(org)
            raise

    def _leave(self, org: str) -> None:
        self._running[org] -= 1
        if not self._running[org]:
            del self._running[org]
        self._hand_out()

    def _hand_out(self) -> None:
        """Give what is free to whoever's turn it is."""
        while self._running.total() < self.readers:
            org = next((name for name in self._waiting if self._may_have_one(name)), None)
            if org is None:
                return
            line = self._waiting.pop(org)
            turn = line.popleft()
            if line:
                self._waiting[org] = line  # At the end of the turns.
            if not turn.cancelled():
                self._running[org] += 1
                turn.set_result(None)

    def _may_have_one(self, org: str) -> bool:
        return self._running[org] < self.org_readers

    def _forget(self, org: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(org)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._waiting[org]


def refuse_wait(org_waiting: int) -> Refusal:
    """The refusal of a look-up that as many of its organization are before as may wait."""
    denial = Denial(
        limit_id="org:look_ups",
        limit_type="rate_limit",
        unit="requests",
        current_usage=org_waiting,
        limit=org_waiting,
        retry_after_ms=_RETRY_MS,
    )
    message = "Too many look-ups of this organization are before this one."
    return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message, denial=denial)
