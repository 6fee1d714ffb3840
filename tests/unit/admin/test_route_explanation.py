"""What a request would do now and why, from the configuration and the reports of dispatchers."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.admin.fleet.route_explanation import Seen, explained
from schemas.config_state import Snapshot
from schemas.entities import Backend, Key, Model, Target
from schemas.errors import ErrorCode
from schemas.overrides import Canary, Drain, Pin, Retries, RouteOverrides, Timeout
from schemas.reports import BackendReport, LaneReport

NOW_MS = 1_800_000_000_000
_WELL: dict[str, Any] = {
    "state": "healthy",
    "since_ms": 1,
    "inflight": 2,
    "limit": 8,
    "at_ms": NOW_MS,
}


def _config(drains: dict[str, Drain] | None = None, **over: Any) -> Snapshot:
    targets = (Target(backend="a", weight=3), Target(backend="b", weight=1))
    return Snapshot(
        offset=7,
        models={"echo": Model(backends=targets)},
        backends={name: Backend(url="http://127.0.0.1:1/v1") for name in "ab"},
        overrides={"echo": RouteOverrides(**over)} if over else {},
        drains=drains or {},
    )


def _dispatcher(config: Snapshot, offset: int = 7, **reports: dict[str, Any]) -> dict[str, Any]:
    """How the explanation ends for one dispatcher that said this of the backends, which are well else."""
    backends = {name: BackendReport(**(_WELL | reports.get(name, {}))) for name in "ab"}
    seen = Seen("dispatcher-0", offset, 250, backends)
    (told,) = explained("echo", config, (), [seen], NOW_MS)["dispatchers"]
    return dict(told)


@pytest.mark.parametrize(
    ("reports", "shares", "refused", "said"),
    [
        ({}, {"a": 0.75, "b": 0.25}, None, "a: gets 75 % (weight 3, 2 of 8 calls under way)"),
        ({"a": {"breaker": "open"}}, {"b": 1.0}, None, "breaker of the backend open"),
        (
            {"a": {"lanes": {"echo": LaneReport("open", 0, 8)}}},
            {"b": 1.0},
            None,
            "breaker of the model there open",
        ),
        (
            {"a": {"lanes": {"other": LaneReport("open", 0, 8)}}},
            {"a": 0.75, "b": 0.25},
            None,
            "a: gets 75 %",
        ),
        ({"a": {"is_alive": False}}, {"b": 1.0}, None, "probes fail: last choice"),
        ({"a": {"inflight": 8}}, {"b": 1.0}, None, "8 of 8 calls under way"),
        (
            {"a": {"lanes": {"echo": LaneReport("closed", 4, 4)}}},
            {"b": 1.0},
            None,
            "4 of 4 for the model",
        ),
        (
            {"a": {"inflight": 8}, "b": {"inflight": 8, "queued": {"echo": 3}}},
            {},
            ErrorCode.OVERLOADED,
            "3 requests of the model wait",
        ),
        (
            {"a": {"breaker": "open"}, "b": {"breaker": "open"}},
            {},
            ErrorCode.NO_BACKEND,
            "503 no_backend_available",
        ),
    ],
)
def test_it_says_who_would_be_called_and_why_others_are_not(
    reports: dict[str, Any], shares: dict[str, float], refused: ErrorCode | None, said: str
) -> None:
    """By breakers of the backend and of the model, probes and slots, as the dispatcher reported them."""
    told = _dispatcher(_config(), **reports)

    assert (told["shares"], told["refused"]) == (pytest.approx(shares), refused)
    assert any(said in step for step in told["steps"]), told["steps"]


def test_a_dispatcher_that_is_behind_is_told() -> None:
    """It goes by an earlier configuration than the one that is explained."""
    assert "behind" in _dispatcher(_config(), offset=5)["steps"][0]
    assert "behind" not in _dispatcher(_config())["steps"][0]


def test_overrides_come_in_their_order() -> None:
    """What was declared, what is over it until when and why, who is left, within what."""
    config = _config(
        {"b": Drain()},
        canary=Canary(backend="b", percent=5),
        timeout=Timeout(timeout_s=20),
        retries=Retries(retries=0),
    )
    override = {"kind": "timeout", "id": "echo", "what": "20 s", "in_force": True, "by": "admin"}
    ended = override | {"kind": "pin", "in_force": False, "why_not": "ended"}
    drain = override | {"kind": "drain", "id": "b", "what": "nothing new"}
    ends = {"expires_at_ms": NOW_MS + 5_400_000, "reason": "night"}
    listed = [override | ends, ended | ends, drain | ends, override | {"id": "other"} | ends]
    steps = explained("echo", config, listed, (), NOW_MS)["steps"]

    assert steps == [
        "declared: a=3, b=1",
        "override: timeout/echo 20 s, until 2027-01-15T09:30:00Z, 1 h 30 min left, by admin: night",
        "override: pin/echo 20 s: out of force, ended",
        "override: drain/b nothing new, until 2027-01-15T09:30:00Z, 1 h 30 min left, by admin: night",
        "drained: b",
        "may be called: a=3",
        "canary: b gets 5 %, the others share the rest by weight",
        "timeout: 20 s for an answer, or of silence in a stream",
        "after a failure before the first byte: nobody else is called",
        "no dispatcher reports: a request waits for one until its deadline",
    ]


def test_a_pinned_backend_that_is_down_has_no_fallback() -> None:
    """Nor does one that is drained."""
    pinned = _config(pin=Pin(backend="a"))

    assert _dispatcher(pinned)["shares"] == {"a": 1.0}
    assert _dispatcher(pinned, a={"breaker": "open"})["refused"] is ErrorCode.NO_BACKEND
    drained = _config({"a": Drain()}, pin=Pin(backend="a"))
    assert _dispatcher(drained)["refused"] is ErrorCode.NO_BACKEND


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ({}, None),
        ({"models": ("echo",)}, None),
        ({"models": ("other",)}, ErrorCode.MODEL_NOT_FOUND),
        ({"revoked_at_ms": 1}, ErrorCode.INVALID_API_KEY),
        ({"expires_at_ms": NOW_MS}, ErrorCode.INVALID_API_KEY),
        ({"expires_at_ms": NOW_MS + 1}, None),
    ],
)
def test_a_key_that_may_not_is_told_first(more: dict[str, Any], refused: ErrorCode | None) -> None:
    """Then nothing of the route is looked at."""
    key = Key(org="acme", hash="0" * 64, display="tg", created_at_ms=0, **more)
    told = explained("echo", _config(), (), (), NOW_MS, ("key_1", key))

    assert told["refused"] == refused
    assert (len(told["steps"]) == 1) is (refused is not None)
