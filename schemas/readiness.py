"""Readiness: what a process says of its components, what follows from it, and where it is asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

HEALTHZ: Final = "/v1/status/healthz"
"""200 as long as the process answers. These are the paths of the processes that serve HTTP; workers have
``/livez`` and ``/readyz``."""
READYZ: Final = "/v1/status/readyz"
"""200 while it can do its work."""
STARTUPZ: Final = "/v1/status/startupz"
"""200 once it has everything that it needs itself, whatever the others do."""
METRICS: Final = "/metrics"
STATUS_PATHS: Final = frozenset({HEALTHZ, READYZ, STARTUPZ, METRICS})

OK: Final = "ok"
DEGRADED: Final = "degraded: "
"""Begins what is wrong with a component that works all the same."""
PAUSED: Final = "paused: "
"""Begins why a partition is not read."""


def readiness(components: Mapping[str, str]) -> Literal["ok", "degraded", "unavailable"]:
    """``degraded`` when something is wrong, and the process can serve all the same."""
    if missing(components):
        return "unavailable"
    return "ok" if all(state == OK for state in components.values()) else "degraded"


def health_value(state: str) -> float:
    """A component's state as a number: 1 is ok, 0.5 is amiss where the process can serve all the same, 0 is neither."""
    if state == OK:
        return 1.0
    return 0.5 if state.startswith((DEGRADED, PAUSED)) else 0.0


def missing(components: Mapping[str, str]) -> list[str]:
    """What keeps the process from doing its work, each component with its state."""
    return [
        f"{name}: {state}"
        for name, state in components.items()
        if state != OK and not state.startswith((DEGRADED, PAUSED))
    ]
