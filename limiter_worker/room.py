"""How many flex requests of a model may start now, from what dispatchers report of its backends. Pure.

Flex begins at a backend while less than half of the calls that may be under way there are: whoever comes to wait on a
connection always finds the other half. Reports are up to two seconds old, so what was let in since counts as under
way, too. Times are Unix milliseconds of the gateway's clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.config_state import Snapshot
from schemas.reports import (
    FRESH_FOR_S,
    BackendReport,
    read_backend_field,
    read_backend_report,
    read_config_report,
)
from schemas.routes import route_at

__all__ = ["Granted", "limiters_in", "reports_in", "room_of"]

_FRESH_MS: Final = round(FRESH_FOR_S * 1_000)
_ON_ITS_WAY_MS: Final = 500
"""What was let in so shortly before a report may not be a call in it yet."""
_KEPT_MS: Final = 2 * _FRESH_MS


def reports_in(health: Mapping[str, str], now_ms: int) -> dict[str, list[BackendReport]]:
    """What dispatchers said lately, by backend."""
    found: dict[str, list[BackendReport]] = {}
    for name, line in health.items():
        report = read_backend_report(line)
        if report is not None and now_ms - report.at_ms <= _FRESH_MS:
            found.setdefault(read_backend_field(name)[1], []).append(report)
    return found


def limiters_in(applied: Mapping[str, str], now_ms: int) -> int:
    """How many limiters share the room: those that reported lately, and this one."""
    said = map(read_config_report, applied.values())
    return max(
        1,
        sum(
            r is not None and r.role == "limiter_worker" and now_ms - r.at_ms <= _FRESH_MS
            for r in said
        ),
    )


@dataclass(slots=True)
class Granted:
    """What was let in lately: when, of which model, how many."""

    _grants: deque[tuple[int, str, int]] = field(default_factory=deque)

    def note(self, now_ms: int, model: str, count: int) -> None:
        """So many more."""
        self._grants.append((now_ms, model, count))
        while self._grants[0][0] < now_ms - _KEPT_MS:
            self._grants.popleft()

    def since(self, at_ms: int, models: frozenset[str]) -> int:
        """How many of these models since then."""
        return sum(
            count for when_ms, model, count in self._grants if when_ms >= at_ms and model in models
        )


def room_of(
    model: str,
    config: Snapshot,
    reports: Mapping[str, Sequence[BackendReport]],
    granted: Granted,
    limiters: int,
    now_ms: int,
) -> int:
    """How many requests of the model may start now, of those that this limiter lets in."""
    route = route_at(model, config, now_ms)
    names = () if route is None else tuple(target.backend for target in route.targets)
    said = [report for name in names for report in reports.get(name, ())]
    if not said:
        return 0
    free = sum(_free(report, model) for report in said) - _queued(said, model)
    near = frozenset(
        name
        for name, entity in config.models.items()
        if any(target.backend in names for target in entity.backends)
    )
    on_their_way = granted.since(min(report.at_ms for report in said) - _ON_ITS_WAY_MS, near)
    return max(0, -(-free // limiters) - on_their_way)


def _free(report: BackendReport, model: str) -> int:
    """How many more calls a dispatcher may begin at a backend until half of its room is taken."""
    is_closed = report.breaker == "open" or model in report.open_models or not report.is_alive
    if is_closed or report.limit < 1:
        return 0
    free = max(1, report.limit // 2) - report.inflight
    lane = report.lanes.get(model)
    if lane is not None:
        free = min(free, max(1, lane.limit // 2) - lane.inflight)
    return max(0, free)


def _queued(said: Sequence[BackendReport], model: str) -> int:
    """What waits for a slot already; each dispatcher says it of every backend of the model."""
    return max((report.queued.get(model, 0) for report in said), default=0)
