"""The backends as this process sees them: calls under way, health, and who may be called next.

A slot is taken before a call and given back after it, whatever happened. A backend has slots of its own,
half of the process's at most; each of its models has a breaker and an adaptive limit of its own, so that a
model that hangs neither closes its backend to others nor fills it. Nothing here waits or does I/O.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from dispatcher.backends.adaptive_limit import AdaptiveLimit
from dispatcher.backends.breaker import Breaker, CallEnd
from dispatcher.backends.health import Health, HealthState, overall
from dispatcher.backends.routing import choose, may_retry, shared_backends, why_none
from dispatcher.work import Choice
from schemas.config_state import Snapshot
from schemas.entities import Backend
from schemas.errors import ErrorCode
from schemas.reports import LaneReport
from schemas.routes import Route, route_at
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock

SLOTS = 512
_ALL_HAVE_ENDED_MS = 2**53
"""Later than any override can end."""
SILENT_S = 5.0
"""A call without a first byte is not suspicious before this."""
_USUAL_TIMES = 4.0
"""It is when it takes so many times what its like usually takes."""
_SHARE_FROM = 16
"""Slots from which on a backend of several models keeps a quarter for the others of them."""


@dataclass(slots=True)
class ModelLane:
    """One model at one backend."""

    breaker: Breaker = field(default_factory=Breaker)
    limit: AdaptiveLimit = field(default_factory=AdaptiveLimit)
    in_flight: int = 0


@dataclass(slots=True)
class BackendState:
    """One backend."""

    health: Health = field(default_factory=Health)
    in_flight: int = 0
    shown: HealthState = "healthy"
    """The state as last looked at, and since when it has been that."""
    since_ms: int = 0
    models: defaultdict[str, ModelLane] = field(default_factory=lambda: defaultdict(ModelLane))


class Slot(msgspec.Struct, eq=False):
    """The right to make one call."""

    choice: Choice
    backend_state: BackendState
    entry: ModelLane
    model: str
    began_s: float
    is_trial: bool
    """Of the backend's breaker."""
    is_model_trial: bool
    is_retry: bool
    streams: bool = False
    """Whether a stream is asked for, whose first byte comes earlier."""
    has_hung: bool = False
    """It counted as failed while it hung."""


@dataclass(slots=True)
class Backends:
    """All backends of the configuration."""

    config: ConfigFeed
    clock: Clock
    slots: int = SLOTS
    """Calls this process makes at once."""
    states: defaultdict[str, BackendState] = field(
        default_factory=lambda: defaultdict(BackendState)
    )
    calls: int = 0
    """Calls under way."""
    retries: int = 0
    """How many of them are second attempts."""
    _silent: dict[Slot, None] = field(default_factory=dict)
    """Calls without a first byte, oldest first, as long as they do not count as hanging."""
    _shared: tuple[Snapshot | None, frozenset[str]] = (None, frozenset())
    _declared: tuple[Snapshot | None, dict[str, Route]] = (None, {})
    """Routes without overrides, of that configuration."""

    @property
    def is_full(self) -> bool:
        """Whether all slots of the process are taken."""
        return self.calls >= self.slots

    def take(
        self, model: str, tried: Collection[str] = (), *, is_retry: bool = False
    ) -> Slot | ErrorCode:
        """A slot at a backend that was not tried.

        NO_BACKEND: none may be called. OVERLOADED: all are full, or for a second attempt the share of
        calls that may be retries is used up.
        """
        choice = self._choice(model, tried)
        if not isinstance(choice, Choice):
            return choice
        if self.is_full or (is_retry and not may_retry(self.retries, self.calls)):
            return ErrorCode.OVERLOADED
        return self._taken(choice, model, is_retry=is_retry)

    def has_route(self, model: str) -> bool:
        """Whether a backend could be called if only all were well, and overrides that end by themselves had ended."""
        route = route_at(model, self.config.snapshot, _ALL_HAVE_ENDED_MS)
        return route is not None and bool(route.targets)

    def route(self, model: str) -> Route | None:
        """The route of the model as it is now. One over which nothing stands is the same until the configuration
        changes, so it is put together once."""
        snapshot = self.config.snapshot
        if self._declared[0] is not snapshot:
            self._declared = snapshot, {}
        declared = self._declared[1]
        if (route := declared.get(model)) is not None:
            return route
        route = route_at(model, snapshot, self.clock.now_ms())
        if route is not None and not snapshot.drains and model not in snapshot.overrides:
            declared[model] = route
        return route

    def why_none(self, model: str) -> str | None:
        """What a client is told where an operator's decision left no backend to call."""
        return why_none(self.route(model))

    def waits(self, slot: Slot) -> None:
        """The call has not begun: ledger, bus or log are waited for, which is nobody's silence here."""
        self._silent.pop(slot, None)

    def begins(self, slot: Slot) -> None:
        """The call begins now: until its first byte comes, it is silent."""
        self._silent.pop(slot, None)
        slot.began_s = self.clock.monotonic_s()
        self._silent[slot] = None

    def answered(self, slot: Slot) -> None:
        """The first byte of the call has come: it has been reached, and it does not hang."""
        now_s = self.clock.monotonic_s()
        self._silent.pop(slot, None)
        slot.entry.limit.answered(now_s - slot.began_s, streams=slot.streams)
        self._reached(slot, now_s)
        if slot.is_model_trial and slot.streams and not slot.has_hung:
            # A stream may run for minutes; nobody else should have to wait for its end.
            slot.is_model_trial = False
            slot.entry.breaker = slot.entry.breaker.ended(now_s, "succeeded", is_trial=True)

    def give_back(self, slot: Slot, end: CallEnd) -> None:
        """The call ended like this."""
        now_s = self.clock.monotonic_s()
        self._silent.pop(slot, None)
        backend_state, entry = slot.backend_state, slot.entry
        backend_state.in_flight -= 1
        entry.in_flight -= 1
        self.calls -= 1
        self.retries -= slot.is_retry
        # What fails once the connection stands is the model's failure, not the backend's.
        of_backend: CallEnd = "succeeded" if end == "failed" else end
        backend_state.health = backend_state.health.ended(now_s, of_backend, is_trial=slot.is_trial)
        if end in {"failed", "unreachable"}:
            entry.limit.failed()
        if not slot.has_hung:
            of_model: CallEnd = "undecided" if end == "unreachable" else end
            entry.breaker = entry.breaker.ended(now_s, of_model, is_trial=slot.is_model_trial)
        elif end == "succeeded":
            entry.breaker = entry.breaker.woke()

    def look(self) -> None:
        """Count what hangs and bring the limits up to date; called a few times a second."""
        now_s = self.clock.monotonic_s()
        self._note_silence(now_s)
        for name, backend in self.config.snapshot.backends.items():
            if (backend_state := self.states.get(name)) is not None:
                ceiling = self._share(name, backend)
                for entry in backend_state.models.values():
                    entry.limit.look(now_s, entry.in_flight, ceiling)

    def probed(self, name: str, *, answered: bool) -> None:
        """A probe of the backend ended."""
        backend_state = self.states[name]
        backend_state.health = backend_state.health.probed(
            self.clock.monotonic_s(), answered=answered
        )

    def observe(self) -> list[str]:
        """Bring states and their times up to date; the backends whose state changed."""
        self._match_config()
        now_s, changed = self.clock.monotonic_s(), []
        for name, backend_state in self.states.items():
            state = overall(
                backend_state.health, [m.breaker for m in backend_state.models.values()], now_s
            )
            if state != backend_state.shown or backend_state.since_ms == 0:
                backend_state.shown, backend_state.since_ms = state, self.clock.now_ms()
                changed.append(name)
        return changed

    def slots_of(self, name: str) -> int:
        """Calls that may be under way at the backend at once, as its models' limits stand now."""
        backend, backend_state = self.config.snapshot.backends.get(name), self.states.get(name)
        if backend is None:
            return 0
        room, share = self._room(backend), self._share(name, backend)
        limits = (
            [entry.limit.slots(share) for entry in backend_state.models.values()]
            if backend_state
            else []
        )
        return min(room, sum(limits)) if limits else room

    def broken_models(self, name: str) -> list[str]:
        """Models that must not be called at the backend now."""
        now_s, models = self.clock.monotonic_s(), self.states[name].models.items()
        return sorted(model for model, entry in models if entry.breaker.state(now_s) == "open")

    def lanes_of(self, name: str) -> dict[str, LaneReport]:
        """Its models with calls under way or a breaker that is not closed."""
        backend, now_s, found = (
            self.config.snapshot.backends.get(name),
            self.clock.monotonic_s(),
            {},
        )
        share = 0 if backend is None else self._share(name, backend)
        for model, lane in self.states[name].models.items():
            state = lane.breaker.state(now_s)
            if lane.in_flight or state != "closed":
                found[model] = LaneReport(state, lane.in_flight, lane.limit.slots(share))
        return found

    def _match_config(self) -> None:
        snapshot = self.config.snapshot
        for name in self.states.keys() - snapshot.backends.keys():
            del self.states[name]
        for name in snapshot.backends:
            models = self.states[name].models
            for model in models.keys() - snapshot.models.keys():
                del models[model]

    def _choice(self, model: str, tried: Collection[str]) -> Choice | ErrorCode:
        snapshot, now_s = self.config.snapshot, self.clock.monotonic_s()
        if (route := self.route(model)) is None:
            return ErrorCode.NO_BACKEND
        excluded, degraded, full = set(tried), set[str](), set[str]()
        for target in route.targets:
            name = target.backend
            backend = snapshot.backends[name]
            backend_state = self.states[name]
            lane = backend_state.models[model]
            breaker = lane.breaker
            is_full = self._has_no_slot(name, backend, backend_state, lane)
            if is_full:
                full.add(name)
            if not backend_state.health.probes.is_alive:
                degraded.add(name)
            # A trial that finds no slot would let others wait in vain.
            is_closed = not (backend_state.health.breaker.admits(now_s) and breaker.admits(now_s))
            if is_closed or (is_full and breaker.state(now_s) != "closed"):
                excluded.add(name)
        draw = random.random()  # noqa: S311  # load spreading, no secret
        choice = choose(route, snapshot, excluded, draw, degraded=degraded, full=full)
        if choice is not None:
            return choice
        is_only_full = full and choose(route, snapshot, excluded, draw, degraded=degraded)
        return ErrorCode.OVERLOADED if is_only_full else ErrorCode.NO_BACKEND

    def _has_no_slot(
        self, name: str, backend: Backend, backend_state: BackendState, entry: ModelLane
    ) -> bool:
        return backend_state.in_flight >= self._room(backend) or (
            entry.in_flight >= entry.limit.slots(self._share(name, backend))
        )

    def _room(self, backend: Backend) -> int:
        """Calls the backend may have at once: no more than it takes, and half of all we make."""
        return min(backend.max_concurrency, max(1, self.slots // 2))

    def _share(self, name: str, backend: Backend) -> int:
        """How many of them may be of one model."""
        if self._shared[0] is not self.config.snapshot:
            self._shared = self.config.snapshot, shared_backends(self.config.snapshot)
        room = self._room(backend)
        return room - room // 4 if name in self._shared[1] and room >= _SHARE_FROM else room

    def _taken(self, choice: Choice, model: str, *, is_retry: bool) -> Slot:
        now_s, backend_state = self.clock.monotonic_s(), self.states[choice.backend_id]
        entry = backend_state.models[model]
        backend_state.health, is_trial = backend_state.health.begun(now_s)
        entry.breaker, is_model_trial = entry.breaker.begun(now_s)
        backend_state.in_flight += 1
        entry.in_flight += 1
        entry.limit.began(entry.in_flight)
        self.calls += 1
        self.retries += is_retry
        slot = Slot(choice, backend_state, entry, model, now_s, is_trial, is_model_trial, is_retry)
        self._silent[slot] = None
        return slot

    def _reached(self, slot: Slot, now_s: float) -> None:
        """The call has a connection: if it was on trial for that, the trial is over."""
        if slot.is_trial:
            slot.is_trial = False
            slot.backend_state.health = slot.backend_state.health.ended(
                now_s, "succeeded", is_trial=True
            )

    def _note_silence(self, now_s: float) -> None:
        """Calls that are silent beyond all patience count as failed now, not when they end."""
        due: list[Slot] = []
        for slot in self._silent:
            if now_s - slot.began_s < SILENT_S:
                break
            if self._hangs(slot, now_s - slot.began_s):
                due.append(slot)
        for slot in due:
            del self._silent[slot]
            slot.has_hung = True
            self._reached(slot, now_s)  # a connection that cannot be made fails earlier
            slot.entry.limit.failed()
            slot.entry.breaker = slot.entry.breaker.hung(now_s, is_trial=slot.is_model_trial)

    def _hangs(self, slot: Slot, silent_s: float) -> bool:
        """Whether the call is silent for far longer than calls like it are.

        Where none has ever answered, slow and broken look the same. Then it counts once it does harm:
        when the backend answers no probe either, or the model has no slot left there.
        """
        usual_s = self._usual_s(slot)
        if usual_s is not None:
            return silent_s > max(SILENT_S, _USUAL_TIMES * usual_s)
        name, backend = slot.choice.backend_id, slot.choice.backend
        is_harmful = self._has_no_slot(name, backend, slot.backend_state, slot.entry)
        return is_harmful or not slot.backend_state.health.probes.is_alive

    def _usual_s(self, slot: Slot) -> float | None:
        """What such a call takes here, else at another backend of the model."""
        own_s = slot.entry.limit.usual_s(streams=slot.streams)
        if own_s is not None:
            return own_s
        entity = self.config.snapshot.models.get(slot.model)
        states = [self.states[target.backend] for target in entity.backends] if entity else []
        known = [
            backend_state.models[slot.model].limit.usual_s(streams=slot.streams)
            for backend_state in states
        ]
        return max((usual_s for usual_s in known if usual_s is not None), default=None)
