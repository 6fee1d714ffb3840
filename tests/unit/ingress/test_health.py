"""What health says of the gateway, and when it is not ready."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from ingress.health.document import Health
from ingress.health.fleet import ROLES, BackendState, Fleet

WELL = dict.fromkeys(("kafka", "bus", "config", "clock", "ledger"), "ok")


def _fleet(**more: Any) -> Fleet:
    fields: dict[str, Any] = {
        "at_s": 100.0,
        "workers": {role: {f"{role}-0": 1.0} for role in ROLES},
        "backends": {"a": "healthy", "b": "drained"},
        "models_without_backend": (),
        "models": 3,
    }
    return Fleet(**(fields | more))


def _health(**more: Any) -> Health:
    fields: dict[str, Any] = {
        "components": WELL,
        "bounds": {},
        "closing": {},
        "fleet": _fleet(),
        "now_s": 100.0,
    }
    return Health(**(fields | more))


def _without(role: str) -> Fleet:
    workers: dict[str, dict[str, float]] = {name: {f"{name}-0": 1.0} for name in ROLES}
    return _fleet(workers=workers | {role: {f"{role}-0": 10.1}})


def test_what_works_is_ok() -> None:
    """With everything that is known of it."""
    health = _health(clock={"local_ahead_ms": 3})

    assert health.is_ready
    assert health.document() == {
        "status": "ok",
        "components": WELL,
        "bounds": {},
        "reasons": [],
        "clock": {"local_ahead_ms": 3},
        "workers": {role: {f"{role}-0": {"state": "ok", "age_s": 1.0}} for role in ROLES},
        "backends": {"a": "healthy", "b": "drained"},
        "models_without_backend": [],
        "counts": {
            "healthy": 1,
            "drained": 1,
            "models": 3,
            "models_without_backend": 0,
            "overrides": 0,
        },
    }


@pytest.mark.parametrize(
    "amiss",
    [
        pytest.param({"components": WELL | {"ledger": "not connected"}}, id="ledger"),
        pytest.param({"bounds": {"org_inflight_max": "1 organization"}}, id="bound"),
        pytest.param({"fleet": _fleet(backends={"a": "down", "b": "healthy"})}, id="backend"),
        pytest.param({"fleet": _fleet(models_without_backend=("m",))}, id="one model"),
        pytest.param({"fleet": _without("accounting")}, id="accounting"),
    ],
)
def test_as_long_as_any_model_can_be_served_it_is_ready(amiss: dict[str, Any]) -> None:
    """Degraded, and the document says by what."""
    health = _health(**amiss)

    assert (health.is_ready, health.document()["status"]) == (True, "degraded")


@pytest.mark.parametrize(
    ("amiss", "reason"),
    [
        ({"components": WELL | {"kafka": "not connected"}}, "kafka: not connected"),
        ({"components": WELL | {"bus": "no answer for 3 s"}}, "bus: no answer for 3 s"),
        ({"components": WELL | {"config": "nothing read yet"}}, "config: nothing read yet"),
        ({"components": WELL | {"clock": "not read yet"}}, "clock: not read yet"),
        ({"closing": {"broker_disk": "low"}}, "broker_disk: low"),
        ({"is_leaving": True}, "leaving: this process is told to end"),
        ({"fleet": None}, "workers: no report read yet"),
        ({"fleet": _without("dispatcher")}, "dispatcher: no report for 10 s"),
        ({"fleet": _without("limiter_worker")}, "limiter_worker: no report for 10 s"),
        (
            {"fleet": _fleet(models=1, models_without_backend=("m",))},
            "backends: no model has one that can be used",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_when_no_request_could_be_served_it_is_not(amiss: dict[str, Any], reason: str) -> None:
    """And says why."""
    health = _health(**amiss)

    assert not health.is_ready
    assert (health.document()["status"], health.document()["reasons"]) == ("unavailable", [reason])


def test_one_of_two_workers_is_missing_and_named() -> None:
    """The other one serves."""
    workers = {role: {f"{role}-0": 1.0} for role in ROLES}
    workers["dispatcher"] |= {"dispatcher-1": 12.0}
    health = _health(fleet=_fleet(workers=workers))

    told = health.document()["workers"]["dispatcher"]

    assert (health.is_ready, health.document()["status"]) == (True, "degraded")
    assert told["dispatcher-1"] == {"state": "missing", "age_s": 12.0}


def test_reports_that_nobody_could_read_grow_old() -> None:
    """A ledger store that hangs is a fleet that is not known."""
    assert not replace(_health(), now_s=112.0).is_ready


def test_the_document_stays_small() -> None:
    """With a thousand backends, trouble is listed first and all of it is counted."""
    backends: dict[str, BackendState] = {f"b{n}": "healthy" for n in range(1_000)}
    backends |= {"z1": "down", "z2": "degraded"}
    names = tuple(f"m{n}" for n in range(1_000))
    fleet = _fleet(backends=backends, models=1_001, models_without_backend=names)

    document = _health(fleet=fleet).document()

    assert list(document["backends"])[:2] == ["z1", "z2"]
    assert document["counts"]["healthy"] == 1_000
    assert document["counts"]["models_without_backend"] == 1_000
    assert len(msgspec.json.encode(document)) < 5_000
