"""How old reports are, and what several dispatchers say of one backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingress.health.fleet import (
    Fleet,
    LastSeen,
    Moment,
    backend_state,
    backends_of,
    excess_of,
    models_without_backend,
    reports_of,
    workers_of,
)
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.overrides import Drain, Pin, RouteOverrides
from schemas.reports import BackendReport, Excess

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def _at(seconds: float) -> Moment:
    return Moment(NOW_MS + round(1_000 * seconds), 500.0 + seconds)


def _line(written_s: float, skew_ms: int = 0) -> str:
    return f"dispatcher 7 {NOW_MS + round(1_000 * written_s) + skew_ms}"


def _age_s(seen: LastSeen, line: str, at_s: float) -> float:
    return workers_of({"dispatcher-0": line}, seen, _at(at_s))["dispatcher"]["dispatcher-0"]


def test_a_report_is_as_old_as_it_says_when_it_is_first_seen() -> None:
    """One of a process that ended an hour ago is not taken for new."""
    assert _age_s(LastSeen(), _line(-42), 0) == pytest.approx(42)


@pytest.mark.parametrize("skew_ms", [-HOUR_MS, HOUR_MS], ids=["behind", "ahead"])
def test_a_worker_whose_clock_is_wrong_is_not_missing(skew_ms: int) -> None:
    """A report that changes was just written."""
    seen = LastSeen()
    workers_of({"dispatcher-0": _line(-2, skew_ms)}, seen, _at(0))

    assert _age_s(seen, _line(0, skew_ms), 2) == 0
    assert _age_s(seen, _line(0, skew_ms), 9) == pytest.approx(7)


def test_a_report_that_stands_still_grows_old() -> None:
    """Also when its writer's clock is far ahead."""
    seen = LastSeen()
    _age_s(seen, _line(0, HOUR_MS), 0)

    assert _age_s(seen, _line(0, HOUR_MS), 30) == pytest.approx(30)


@pytest.mark.parametrize(
    "line", ["", "dispatcher", "dispatcher 7", "dispatcher 7 now", f"router 7 {NOW_MS}"]
)
def test_what_is_no_report_of_a_worker_is_left_out(line: str) -> None:
    """It costs nothing else."""
    assert not any(workers_of({"x": line}, LastSeen(), _at(0)).values())


def test_a_worker_that_is_gone_for_long_is_forgotten() -> None:
    """There are fewer of them than there were."""
    assert workers_of({"dispatcher-3": _line(-700)}, LastSeen(), _at(0))["dispatcher"] == {}


def test_lines_that_are_gone_are_forgotten() -> None:
    """Memory is as bounded as the hash."""
    seen = LastSeen()
    _age_s(seen, _line(0), 0)
    seen.keep([])

    assert seen == LastSeen()


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ((), "unknown"),
        (("healthy", "healthy"), "healthy"),
        (("healthy", "open"), "degraded"),
        (("half_open",), "degraded"),
        (("unhealthy", "open"), "down"),
        (("something new",), "degraded"),
    ],
    ids=str,
)
def test_dispatchers_speak_of_a_backend_with_one_voice(said: tuple[str, ...], state: str) -> None:
    """It is down only when none of them can use it."""
    assert backend_state(said) == state


def _snapshot() -> Snapshot:
    backends = {
        "a": Backend(url="http://a.test/v1"),
        "b": Backend(url="http://b.test/v1"),
        "c": Backend(url="http://c.test/v1", state="drained"),
    }
    models = {
        "both": Model(backends=(Target(backend="a"), Target(backend="b"))),
        "first": Model(backends=(Target(backend="a"),)),
        "drained": Model(backends=(Target(backend="c"),)),
    }
    return Snapshot(models=models, backends=backends)


def _health(state: str, at_s: float = 0) -> str:
    return f'{{"state":"{state}","since_ms":1,"inflight":0,"at_ms":{NOW_MS + round(1_000 * at_s)}}}'


def test_backends_are_told_by_fresh_reports_only() -> None:
    """What a dispatcher said before it vanished is no longer so; what is no report says nothing."""
    health = {
        "dispatcher-0|a": _health("open"),
        "dispatcher-1|a": _health("healthy", -60),
        "dispatcher-0|b": "nonsense",
        "dispatcher-0|gone": _health("healthy"),
        "dispatcher-0|c": _health("healthy"),
    }

    backends = backends_of(_snapshot(), reports_of(health, LastSeen(), _at(0)), NOW_MS)

    assert backends == {"a": "down", "b": "unknown", "c": "drained"}
    assert models_without_backend(_snapshot(), backends, NOW_MS) == ("drained", "first")


def test_overrides_count_for_what_can_be_served() -> None:
    """A model that is pinned to a backend that is down has none, nor has one whose backend an operator drained."""
    snapshot = replace(
        _snapshot(),
        overrides={"both": RouteOverrides(pin=Pin(backend="a"))},
        drains={"b": Drain(expires_at_ms=NOW_MS + 1)},
    )
    reports = reports_of({"dispatcher-0|a": _health("open")}, LastSeen(), _at(0))
    backends = backends_of(snapshot, reports, NOW_MS)

    assert backends["b"] == "drained"
    assert models_without_backend(snapshot, backends, NOW_MS) == ("both", "drained", "first")
    assert backends_of(snapshot, reports, NOW_MS + 1)["b"] == "unknown"
    unpinned = replace(snapshot, overrides={}, drains={})
    assert models_without_backend(unpinned, backends, NOW_MS) == ("drained", "first")


def _exceeding(at_s: float = 0, **models: tuple[int, int]) -> str:
    report = BackendReport(
        state="healthy",
        since_ms=1,
        inflight=0,
        at_ms=NOW_MS + round(1_000 * at_s),
        excess={model: Excess(*excess) for model, excess in models.items()},
    )
    return report.line().decode()


def test_the_largest_excess_of_a_model_counts() -> None:
    """Whichever dispatcher saw it, at whichever backend; who vanished has no say."""
    health = {
        "dispatcher-0|a": _exceeding(both=(700, 0), first=(1, 2), gone=(9, 9)),
        "dispatcher-1|b": _exceeding(both=(3, 40)),
        "dispatcher-2|a": _exceeding(-60, first=(900, 900)),
        "dispatcher-0|gone": _exceeding(both=(9_999, 9_999)),
        "dispatcher-1|a": _health("healthy"),
    }

    found = excess_of(_snapshot(), reports_of(health, LastSeen(), _at(0)))

    assert found == {"both": Excess(700, 40), "first": Excess(1, 2)}


def test_ages_grow_between_looks() -> None:
    """A watch that stands still does not keep workers alive."""
    fleet = Fleet(100.0, {"dispatcher": {"dispatcher-0": 4.0}}, {}, (), 0)

    assert fleet.ages_s("dispatcher", 103.0) == {"dispatcher-0": 7.0}
    assert fleet.is_reporting("dispatcher", 106.0)
    assert not fleet.is_reporting("dispatcher", 106.1)
    assert not fleet.is_reporting("accounting", 100.0)
