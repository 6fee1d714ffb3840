"""The backends as this process sees them: calls under way, health, and who may be called next.

A slot is taken before a call and given back after it, whatever happened; nobody waits for one longer
than two seconds. Nothing here does I/O.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from dispatcher.breaker import CallEnd
from dispatcher.health import Health, HealthState
from dispatcher.routing import Choice, choose, may_retry
from schemas.errors import ErrorCode
from schemas.runtime.clock import Clock
from schemas.runtime.config import ConfigFeed

SLOT_WAIT_S = 2.0


@dataclass(slots=True)
class Lane:
    """One backend."""

    health: Health = field(default_factory=Health)
    in_flight: int = 0
    shown: HealthState = "healthy"
    """The state as last looked at, and since when it has been that."""
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to make one call."""

    choice: Choice
    lane: Lane
    is_trial: bool
    is_retry: bool


@dataclass(slots=True)
class Backends:
    """All backends of the configuration."""

    config: ConfigFeed
    clock: Clock
    lanes: defaultdict[str, Lane] = field(default_factory=lambda: defaultdict(Lane))
    calls: int = 0
    """Calls under way."""
    retries: int = 0
    """How many of them are second attempts."""
    _waiting: dict[str, deque[asyncio.Future[None]]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    """Who waits for a slot, by model."""

    async def take(
        self, model: str, tried: Collection[str], left_s: float, *, is_retry: bool = False
    ) -> Slot | ErrorCode:
        """A slot at a backend that was not tried; waits for at most ``left_s``, and 2 s, for one.

        NO_BACKEND: none may be called. OVERLOADED: all stayed full, or for a second attempt the
        share of calls that may be retries stayed used up.
        """
        give_up_at_s = self.clock.monotonic_s() + min(left_s, SLOT_WAIT_S)
        while True:
            choice = self._choice(model, tried, is_retry=is_retry)
            if isinstance(choice, Choice):
                return self._taken(choice, is_retry=is_retry)
            wait_s = give_up_at_s - self.clock.monotonic_s()
            if choice is ErrorCode.NO_BACKEND or wait_s <= 0:
                return choice
            await self._one_given_back(model, wait_s)

    def give_back(self, slot: Slot, end: CallEnd) -> None:
        """The call ended like this."""
        lane = slot.lane
        lane.in_flight -= 1
        self.calls -= 1
        self.retries -= slot.is_retry
        lane.health = lane.health.ended(self.clock.monotonic_s(), end, is_trial=slot.is_trial)
        for queue in self._waiting.values():
            _wake_first(queue)

    def probed(self, name: str, *, answered: bool) -> None:
        """A probe of the backend ended."""
        lane = self.lanes[name]
        lane.health = lane.health.probed(answered=answered)

    def observe(self) -> list[str]:
        """Bring states and their times up to date; the backends whose state changed."""
        self._match_config()
        now_s, changed = self.clock.monotonic_s(), []
        for name, lane in self.lanes.items():
            state = lane.health.state(now_s)
            if state != lane.shown or lane.since_ms == 0:
                lane.shown, lane.since_ms = state, self.clock.now_ms()
                changed.append(name)
        return changed

    def _match_config(self) -> None:
        known = self.config.snapshot.backends
        for name in self.lanes.keys() - known.keys():
            del self.lanes[name]
        for name in known:
            self.lanes.setdefault(name, Lane())

    def _choice(self, model: str, tried: Collection[str], *, is_retry: bool) -> Choice | ErrorCode:
        snapshot, now_s = self.config.snapshot, self.clock.monotonic_s()
        lanes = self.lanes.items()
        closed = {name for name, lane in lanes if not lane.health.breaker.admits(now_s)}
        degraded = {name for name, lane in lanes if not lane.health.probes.is_alive}
        excluded = closed.union(tried)
        draw = random.random()  # noqa: S311  # load spreading, no secret
        full = self._full()
        choice = choose(model, snapshot, excluded, draw, degraded=degraded, full=full)
        if choice is None and (
            not full or choose(model, snapshot, excluded, draw, degraded=degraded) is None
        ):
            return ErrorCode.NO_BACKEND
        if choice is None or (is_retry and not may_retry(self.retries, self.calls)):
            return ErrorCode.OVERLOADED
        return choice

    def _full(self) -> set[str]:
        """Backends that have as many calls under way as they may have."""
        known = self.config.snapshot.backends
        return {
            name
            for name, lane in self.lanes.items()
            if name in known and lane.in_flight >= known[name].max_concurrency
        }

    def _taken(self, choice: Choice, *, is_retry: bool) -> Slot:
        lane = self.lanes[choice.backend_id]
        lane.health, is_trial = lane.health.begun(self.clock.monotonic_s())
        lane.in_flight += 1
        self.calls += 1
        self.retries += is_retry
        return Slot(choice, lane, is_trial, is_retry)

    async def _one_given_back(self, model: str, wait_s: float) -> None:
        """Return when a slot was given back that a request of the model may want, or in time."""
        queue = self._waiting[model]
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await waiter
        finally:
            if waiter in queue:
                queue.remove(waiter)


def _wake_first(queue: deque[asyncio.Future[None]]) -> None:
    while queue:
        waiter = queue.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return
