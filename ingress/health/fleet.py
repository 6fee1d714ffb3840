"""The fleet as ingress sees it: workers by their last report, backends by what dispatchers say. Pure.

Ages go by the reader's clocks. A report that changes was just written, whatever its writer's clock says;
only of one that was there before the reader looked is the age taken from the time written in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from schemas.config_state import Snapshot
from schemas.reports import (
    FRESH_FOR_S,
    NO_EXCESS,
    BackendReport,
    Excess,
    read_backend_field,
    read_backend_report,
    read_config_report,
)
from schemas.routes import is_drained, route_at
from schemas.topics import READ_BY

ROLES: Final = tuple(READ_BY)
_FORGOTTEN_AFTER_S: Final = 600.0
_DOWN: Final = frozenset({"unhealthy", "open"})

BackendState: TypeAlias = Literal["healthy", "degraded", "down", "drained", "unknown"]


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on the reader's two clocks."""

    unix_ms: int
    monotonic_s: float


@dataclass(slots=True)
class LastSeen:
    """Since when lines stand unchanged, by name."""

    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def age_s(self, name: str, line: str, written_ms: int, now: Moment) -> float:
        """Seconds since the line was written, as far as it can be told from here."""
        known = self._seen.get(name)
        if known is None:
            told_s = max(0, now.unix_ms - written_ms) / 1_000
            known = self._seen[name] = line, now.monotonic_s - told_s
        elif known[0] != line:
            known = self._seen[name] = line, now.monotonic_s
        return now.monotonic_s - known[1]

    def keep(self, names: Iterable[str]) -> None:
        """Forget all others."""
        wanted = set(names)
        for name in self._seen.keys() - wanted:
            del self._seen[name]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workers and backends at one moment; ages grow from then on."""

    at_s: float
    workers: Mapping[str, Mapping[str, float]]
    """Role to instance to the age of its last report then, in seconds."""
    backends: Mapping[str, BackendState]
    models_without_backend: tuple[str, ...]
    models: int
    overrides: int = 0
    """How many overrides of routes and backends are in force."""

    def ages_s(self, role: str, now_s: float) -> dict[str, float]:
        """Instances of the role and the age of their last report now."""
        later_s = now_s - self.at_s
        return {name: age_s + later_s for name, age_s in self.workers.get(role, {}).items()}

    def is_reporting(self, role: str, now_s: float) -> bool:
        """Whether any instance of the role has reported lately."""
        return any(age_s <= FRESH_FOR_S for age_s in self.ages_s(role, now_s).values())


def workers_of(
    applied: Mapping[str, str], seen: LastSeen, now: Moment
) -> dict[str, dict[str, float]]:
    """Workers from the lines that they wrote; those gone for long are left out."""
    workers: dict[str, dict[str, float]] = {role: {} for role in ROLES}
    for name, line in sorted(applied.items()):
        report = read_config_report(line)
        if report is None or report.role not in workers:
            continue
        age_s = seen.age_s(name, line, report.at_ms, now)
        if age_s < _FORGOTTEN_AFTER_S:
            workers[report.role][name] = age_s
    return workers


def reports_of(
    health: Mapping[str, str], seen: LastSeen, now: Moment
) -> list[tuple[str, BackendReport]]:
    """Backends and what dispatchers said of them lately."""
    found = []
    for name, line in health.items():
        _, backend = read_backend_field(name)
        report = read_backend_report(line)
        if report and seen.age_s(name, line, report.at_ms, now) <= FRESH_FOR_S:
            found.append((backend, report))
    return found


def backends_of(
    snapshot: Snapshot, reports: Iterable[tuple[str, BackendReport]], now_ms: int
) -> dict[str, BackendState]:
    """Every configured backend, from what dispatchers said lately."""
    said: dict[str, list[str]] = {}
    for backend, report in reports:
        said.setdefault(backend, []).append(report.state)
    return {
        name: "drained" if is_drained(name, snapshot, now_ms) else backend_state(said.get(name, ()))
        for name in snapshot.backends
    }


def excess_of(
    snapshot: Snapshot, reports: Iterable[tuple[str, BackendReport]]
) -> dict[str, Excess]:
    """By how much backends exceed the bounds of models: the largest that any dispatcher says of each."""
    found: dict[str, Excess] = {}
    for backend, report in reports:
        for model, excess in report.excess.items():
            if model in snapshot.models and backend in snapshot.backends:
                found[model] = Excess(*map(max, found.get(model, NO_EXCESS), excess))
    return found


def backend_state(said: Iterable[str]) -> BackendState:
    """One word for what several dispatchers say."""
    states = set(said)
    if not states:
        return "unknown"
    if states == {"healthy"}:
        return "healthy"
    return "down" if states <= _DOWN else "degraded"


def models_without_backend(
    snapshot: Snapshot, backends: Mapping[str, BackendState], now_ms: int
) -> tuple[str, ...]:
    """Models that no backend can serve now, as their routes are; what is not known is hoped for."""
    down = {name for name, state in backends.items() if state == "down"}
    return tuple(
        name
        for name in sorted(snapshot.models)
        if (route := route_at(name, snapshot, now_ms)) is not None
        and all(target.backend in down for target in route.targets)
    )
