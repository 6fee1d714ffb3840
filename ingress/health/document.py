"""Health of the gateway in one document: what works, what is missing, which bound is reached. Pure.

``ok``: everything works. ``degraded``: something is amiss, and some model can be served. ``unavailable``:
no request could be answered now. Lists are cut, so that the document stays small however large the
configuration is; counts are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NotRequired, TypedDict

from ingress.health.fleet import ROLES, Fleet
from schemas.reports import FRESH_FOR_S

NEEDED: Final = frozenset({"kafka", "bus", "config", "clock"})
"""Components without which no request can be served."""
_NEEDED_ROLES: Final = ("limiter_worker", "dispatcher")
_LISTED_MAX: Final = 50
_SOUND: Final = frozenset({"healthy", "drained"})
_NOT_READ: Final = "no report read yet"


class WorkerShown(TypedDict):
    """A process by its last report, and how old that is."""

    state: str
    age_s: float


class HealthDocument(TypedDict):
    """What works, what is missing, and which bounds are reached; what the fleet says, once that was read."""

    status: str
    components: dict[str, str]
    bounds: dict[str, str]
    reasons: list[str]
    clock: dict[str, int | None]
    workers: NotRequired[dict[str, dict[str, WorkerShown]]]
    backends: NotRequired[dict[str, str]]
    models_without_backend: NotRequired[list[str]]
    counts: NotRequired[dict[str, int]]


@dataclass(frozen=True, slots=True)
class Health:
    """What is known at this moment."""

    components: Mapping[str, str]
    """Component to ``ok`` or what is wrong with it."""
    bounds: Mapping[str, str]
    """Bounds at which some requests are refused now."""
    closing: Mapping[str, str]
    """Bounds at which all are."""
    fleet: Fleet | None
    """``None`` until the first reports were read."""
    now_s: float
    is_leaving: bool = False
    clock: Mapping[str, int | None] = field(default_factory=dict)
    """How far clocks are off the ledger's, in milliseconds."""

    @property
    def is_ready(self) -> bool:
        """Whether any request could be served."""
        return not self._unavailable()

    def document(self) -> HealthDocument:
        """The answer of the status endpoints."""
        document: HealthDocument = {
            "status": self._status(),
            "components": dict(self.components),
            "bounds": {**self.bounds, **self.closing},
            "reasons": self._unavailable(),
            "clock": dict(self.clock),
        }
        fleet = self.fleet
        if fleet is not None:
            counts: dict[str, int] = dict(Counter(fleet.backends.values()))
            counts["models"] = fleet.models
            counts["overrides"] = fleet.overrides
            counts["models_without_backend"] = len(fleet.models_without_backend)
            without = fleet.models_without_backend
            document["workers"] = {role: self._workers(fleet, role) for role in ROLES}
            document["backends"] = _listed_backends(fleet)
            document["models_without_backend"] = list(without[:_LISTED_MAX])
            document["counts"] = counts
        return document

    def _status(self) -> str:
        if self._unavailable():
            return "unavailable"
        return "degraded" if self._is_amiss() else "ok"

    def _unavailable(self) -> list[str]:
        """Why no request could be served now; empty when one could."""
        why = [f"{name}: {self.components[name]}" for name in sorted(NEEDED) if self._is_bad(name)]
        why += [f"{name}: {how}" for name, how in self.closing.items()]
        if self.is_leaving:
            why.append("leaving: this process is told to end")
        fleet = self.fleet
        if fleet is None:
            return [*why, f"workers: {_NOT_READ}"]
        why += [
            f"{role}: no report for {FRESH_FOR_S:.0f} s"
            for role in _NEEDED_ROLES
            if not fleet.is_reporting(role, self.now_s)
        ]
        if fleet.models and len(fleet.models_without_backend) == fleet.models:
            why.append("backends: no model has one that can be used")
        return why

    def _is_bad(self, component: str) -> bool:
        return self.components[component] != "ok"

    def _is_amiss(self) -> bool:
        fleet = self.fleet
        return (
            any(state != "ok" for state in self.components.values())
            or bool(self.bounds)
            or fleet is None
            or bool(fleet.models_without_backend)
            or any(state not in _SOUND for state in fleet.backends.values())
            or any(self._is_role_amiss(fleet, role) for role in ROLES)
        )

    def _is_role_amiss(self, fleet: Fleet, role: str) -> bool:
        ages_s = fleet.ages_s(role, self.now_s).values()
        return not ages_s or any(age_s > FRESH_FOR_S for age_s in ages_s)

    def _workers(self, fleet: Fleet, role: str) -> dict[str, WorkerShown]:
        ages_s = fleet.ages_s(role, self.now_s)
        return {
            name: {
                "state": "missing" if age_s > FRESH_FOR_S else "ok",
                "age_s": round(age_s, 1),
            }
            for name, age_s in list(ages_s.items())[:_LISTED_MAX]
        }


def _listed_backends(fleet: Fleet) -> dict[str, str]:
    """Backends and their states, those that are not sound first."""
    by_trouble = sorted(fleet.backends.items(), key=lambda item: (item[1] in _SOUND, item[0]))
    return dict(by_trouble[:_LISTED_MAX])
