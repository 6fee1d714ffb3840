"""Whose turn it is to be delivered to: a receiver that is slow or away costs its own organization, nobody else.

An organization has so many deliveries under way, and a few that wait for those; what is more is parked. A receiver that
failed several times in a row is asked with one message at a time, until it takes one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from dispatcher.webhooks.schedule import BUSY, FAILING

__all__ = ["Receiver", "Receivers", "Turn"]

UNDER_WAY_MAX: Final = 256
OF_ORG_MAX: Final = 8
WAITING_MAX: Final = 64
"""Of an organization."""
FAILING_AFTER: Final = 3
"""Failures in a row."""
_KNOWN_MAX: Final = 10_000

Receiver = tuple[str, str]
"""An organization, and scheme, host and port of an address."""


@dataclass(slots=True)
class _Health:
    failures: int = 0
    """In a row."""
    under_way: int = 0


@dataclass(slots=True)
class _Org:
    under_way: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


@dataclass(slots=True)
class Turn:
    """A place among the deliveries under way, or why there is none."""

    refused: str | None = None
    has_failed: bool | None = None
    """How it went; ``None`` where nothing was learned of the receiver."""


@dataclass(slots=True)
class Receivers:
    """The deliveries under way of one process."""

    under_way: int = 0
    _orgs: OrderedDict[str, _Org] = field(default_factory=OrderedDict)
    _health: OrderedDict[Receiver, _Health] = field(default_factory=OrderedDict)

    @asynccontextmanager
    async def turn(self, receiver: Receiver, within_s: float) -> AsyncIterator[Turn]:
        """A turn, within so many seconds; whoever has one notes how it went before it leaves."""
        refused = await self._enter(receiver, within_s)
        if refused is not None:
            yield Turn(refused)
            return
        turn = Turn()
        try:
            yield turn
        finally:
            self._leave(receiver, turn)

    async def _enter(self, receiver: Receiver, within_s: float) -> str | None:
        """Why there is no turn; else it is counted."""
        org = self._orgs.setdefault(receiver[0], _Org())
        if self._is_failing(receiver):
            return self._refuse(receiver[0], FAILING)
        if self._has_room(org):
            self._take(org)
        elif len(org.waiting) >= WAITING_MAX:
            return BUSY
        elif not await self._wait(org, within_s):
            return self._refuse(receiver[0], BUSY)
        elif self._is_failing(receiver):
            self._give_back(receiver[0], org)
            return FAILING
        self._known(receiver).under_way += 1
        return None

    async def _wait(self, org: _Org, within_s: float) -> bool:
        """Whether a place was given in time; who gives it has counted it."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        org.waiting.append(called)
        try:
            await asyncio.wait({called}, timeout=within_s)
        except asyncio.CancelledError:
            if called.done():
                org.under_way -= 1
                self.under_way -= 1
                self._call_next()
            raise
        finally:
            if not called.done():
                org.waiting.remove(called)
        return called.done()

    def _leave(self, receiver: Receiver, turn: Turn) -> None:
        health = self._known(receiver)
        health.under_way -= 1
        if turn.has_failed is not None:
            health.failures = health.failures + 1 if turn.has_failed else 0
        self._give_back(receiver[0], self._orgs[receiver[0]])

    def _take(self, org: _Org) -> None:
        org.under_way += 1
        self.under_way += 1

    def _give_back(self, name: str, org: _Org) -> None:
        org.under_way -= 1
        self.under_way -= 1
        self._forget(name)
        self._call_next()

    def _call_next(self) -> None:
        """Give the free place to whoever waits: the organization that waited longest for one."""
        for name, org in self._orgs.items():
            if org.waiting and self._has_room(org):
                self._take(org)
                org.waiting.popleft().set_result(None)
                self._orgs.move_to_end(name)
                return

    def _has_room(self, org: _Org) -> bool:
        return org.under_way < OF_ORG_MAX and self.under_way < UNDER_WAY_MAX

    def _is_failing(self, receiver: Receiver) -> bool:
        """Whether it failed lately and is being tried."""
        health = self._health.get(receiver)
        return health is not None and health.failures >= FAILING_AFTER and health.under_way > 0

    def _known(self, receiver: Receiver) -> _Health:
        health = self._health.setdefault(receiver, _Health())
        self._health.move_to_end(receiver)
        if len(self._health) > _KNOWN_MAX:
            first, oldest = next(iter(self._health.items()))
            if oldest.under_way == 0:
                del self._health[first]
        return health

    def _refuse(self, name: str, why: str) -> str:
        self._forget(name)
        return why

    def _forget(self, name: str) -> None:
        known = self._orgs.get(name)
        if known is not None and not known.under_way and not known.waiting:
            del self._orgs[name]
