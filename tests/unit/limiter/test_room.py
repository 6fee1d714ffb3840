"""Room for flex: half of what backends take, less what is under way, queued or on its way."""

from __future__ import annotations

from typing import Any

import pytest

from limiter_worker.room import Granted, limiters_in, reports_in, room_of
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.reports import BackendReport, ConfigReport, LaneReport

_NOW_MS = 1_000_000


def _config(state: str = "active") -> Snapshot:
    backend = Backend(url="http://b", state=state)  # type: ignore[arg-type]
    models = {
        name: Model(backends=(Target(backend="b"), Target(backend="c"))) for name in ("m", "other")
    }
    return Snapshot(models=models, backends={"b": backend, "c": backend})


def _report(at_ms: int = _NOW_MS, **facts: object) -> BackendReport:
    said = {"state": "healthy", "since_ms": 0, "inflight": 0, "limit": 40, "at_ms": at_ms}
    return BackendReport(**(said | facts))  # type: ignore[arg-type]


def _room(*said: BackendReport, granted: Granted | None = None, limiters: int = 1) -> int:
    return room_of("m", _config(), {"b": said}, granted or Granted(), limiters, _NOW_MS)


@pytest.mark.parametrize(
    ("facts", "room"),
    [
        ({}, 20),
        ({"inflight": 15}, 5),
        ({"inflight": 25}, 0),
        ({"limit": 1}, 1),
        ({"limit": 1, "inflight": 1}, 0),
        ({"limit": 0}, 0),
        ({"queued": {"m": 6, "other": 9}}, 14),
        ({"lanes": {"m": LaneReport("closed", 3, 10)}}, 2),
        ({"breaker": "open"}, 0),
        ({"open_models": ("m",)}, 0),
        ({"is_alive": False}, 0),
    ],
)
def test_flex_starts_while_less_than_half_of_a_backend_is_taken(
    facts: dict[str, Any], room: int
) -> None:
    """By whomever; the other half is for those who wait on a connection."""
    assert _room(_report(**facts)) == room


def test_all_that_dispatchers_say_is_added_up_and_shared_by_limiters() -> None:
    """Each has calls of its own; two limiters let in half of it each."""
    assert _room(_report(), _report(inflight=10)) == 30
    assert _room(_report(), _report(inflight=10), limiters=2) == 15


def test_what_was_let_in_since_the_reports_counts_as_under_way() -> None:
    """Also of another model of the same backends, and what was too young to be in them; what is older is."""
    granted = Granted()
    granted.note(_NOW_MS - 5_000, "m", 100)
    granted.note(_NOW_MS - 100, "m", 3)
    granted.note(_NOW_MS, "other", 4)
    granted.note(_NOW_MS, "elsewhere", 50)

    assert _room(_report(), granted=granted) == 13


def test_a_drained_backend_or_an_unknown_model_has_no_room() -> None:
    """Nobody would start it."""
    reports = {"b": [_report()]}

    assert room_of("m", _config("drained"), reports, Granted(), 1, _NOW_MS) == 0
    assert room_of("gone", _config(), reports, Granted(), 1, _NOW_MS) == 0
    assert room_of("m", _config(), {}, Granted(), 1, _NOW_MS) == 0


def test_only_what_was_said_lately_counts() -> None:
    """And lines that are none are nobody's."""
    old, new = _report(_NOW_MS - 11_000), _report(_NOW_MS - 9_000)
    health = {"d1|b": old.line().decode(), "d2|b": new.line().decode(), "d3|b": "nonsense"}
    applied = {
        "limiter-0": ConfigReport("limiter_worker", 5, _NOW_MS).line(),
        "limiter-1": ConfigReport("limiter_worker", 5, _NOW_MS - 60_000).line(),
        "dispatcher-0": ConfigReport("dispatcher", 5, _NOW_MS).line(),
        "process|limiter-0": "{}",
    }

    assert reports_in(health, _NOW_MS) == {"b": [new]}
    assert limiters_in(applied, _NOW_MS) == 1
    assert limiters_in({}, _NOW_MS) == 1
