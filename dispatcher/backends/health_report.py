"""Tells the ledger store and the metrics how this process sees the backends: what the admin API shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dispatcher.backends.registry import Backends, BackendState
from dispatcher.backends.slots import Slots
from schemas.ledger.keys import BACKEND_HEALTH
from schemas.log_events import LogEvent
from schemas.reports import REPORT_EVERY_S, BackendReport, Excess, backend_field
from schemas.routes import in_force
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.reports import report
from schemas.runtime.valkey.store import Argument, Store, StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_LOOK_S = 0.25
_MODELS_SHOWN = 32
_SOUND = frozenset({"healthy", "drained"})
_LOOKS_PER_REPORT = round(REPORT_EVERY_S / _LOOK_S)
_LOOKS_WHILE_BACKGROUND = 2
_BACKGROUND_FOR_S = 60.0


@dataclass(slots=True)
class HealthReport:
    """Reports every two seconds, within a quarter of one after a change, and twice a second while background work
    comes."""

    slots: Slots
    store: Store
    metrics: Metrics
    clock: Clock
    instance_id: str
    excess_at: Callable[[str], Mapping[str, Excess]]
    """What models hold beyond their bounds because of a backend."""
    probed: Mapping[str, str]
    """What the last probe of each backend came to."""
    lacks_key: Callable[[str], bool]
    """Whether a variable that an entry names was not given."""
    _reported: set[str] = field(default_factory=set)

    @property
    def backends(self) -> Backends:
        """The backends reported."""
        return self.slots.backends

    async def run(self) -> None:
        """Report for ever."""
        self.metrics.look("tallygate_backend_healthy", self._shown)
        looks = 0
        while True:
            try:
                every = _LOOKS_WHILE_BACKGROUND if self._has_background() else _LOOKS_PER_REPORT
                await self._look(is_due=looks % every == 0)
            except Exception as defect:  # noqa: BLE001  # total: one report that fails must not be the last.
                _LOG.event(LogEvent.ROUND_DEFECT, step="report health", defect=defect)
            looks += 1
            await asyncio.sleep(_LOOK_S)

    def _has_background(self) -> bool:
        """Whether background work came lately: whoever lets it in goes by these reports."""
        at_s = self.slots.background_at_s
        return at_s is not None and self.slots.clock.monotonic_s() - at_s < _BACKGROUND_FOR_S

    async def _look(self, *, is_due: bool) -> None:
        changed = self.backends.observe()
        for name in changed:
            self._tell(name, self.backends.states[name])
        if changed or is_due:
            self.metrics.set("tallygate_queued_requests", self.slots.waiting)
            overrides = in_force(self.backends.config.snapshot, self.clock.now_ms())
            self.metrics.set("tallygate_overrides_in_force", overrides)
            await self._report()

    def _tell(self, name: str, backend_state: BackendState) -> None:
        _LOG.event(LogEvent.BACKEND_STATE, backend=name, state=backend_state.shown)

    def _shown(self) -> dict[tuple[str, ...], float]:
        """1 for each backend that is healthy or drained on purpose; one that is configured no more is not told of."""
        states = self.backends.states
        return {(name,): float(state.shown in _SOUND) for name, state in states.items()}

    async def _report(self) -> None:
        states = self.backends.states
        lines: list[Argument] = []
        for name, backend_state in states.items():
            lines += [self._field(name), self._line(name, backend_state)]
        gone = [self._field(name) for name in self._reported - states.keys()]
        self._reported = set(states)
        try:
            if lines:
                await report(self.store, BACKEND_HEALTH, *lines)
            if gone:
                await self.store.call("HDEL", BACKEND_HEALTH, *gone)
        except (StoreUnavailable, StoreError) as error:
            _LOG.event(LogEvent.ROUND_WAITS, step="report health", error=error)

    def _field(self, backend: str) -> str:
        return backend_field(self.instance_id, backend)

    def _line(self, name: str, backend_state: BackendState) -> bytes:
        return BackendReport(
            state=backend_state.shown,
            since_ms=backend_state.since_ms,
            inflight=backend_state.in_flight,
            limit=self.backends.slots_of(name),
            open_models=tuple(self.backends.broken_models(name)),
            queued=self._queued(name),
            excess=dict(sorted(self.excess_at(name).items())[:_MODELS_SHOWN]),
            is_alive=backend_state.health.probes.is_alive,
            breaker=backend_state.health.breaker.state(self.clock.monotonic_s()),
            lanes=dict(sorted(self.backends.lanes_of(name).items())[:_MODELS_SHOWN]),
            lacks_key=self._lacks_key(name),
            probe=self.probed.get(name, ""),
            at_ms=self.clock.now_ms(),
        ).line()

    def _lacks_key(self, backend: str) -> bool:
        entity = self.backends.config.snapshot.backends.get(backend)
        return (
            entity is not None
            and entity.api_key_env is not None
            and self.lacks_key(entity.api_key_env)
        )

    def _queued(self, backend: str) -> dict[str, int]:
        """What waits for slots of the backend, by model; the first few."""
        models = self.backends.config.snapshot.models
        waiting = self.slots.waiting_by_model().items()
        queued = {
            model: count
            for model, count in waiting
            if model in models and any(t.backend == backend for t in models[model].backends)
        }
        return dict(sorted(queued.items())[:_MODELS_SHOWN])
