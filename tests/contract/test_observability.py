"""Dashboards and rules are what their sources make, name only metrics that exist, and lead to runbooks that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dashboards.boards import BOARDS
from deploy.dashboards.panel import Board
from schemas import metrics
from tests.contract.dashboard_json import FOLDER, board_json
from tests.support.runbook_files import runbooks

METRICS: dict[str, metrics.MetricSpec] = {str(name): spec for name, spec in metrics.METRICS.items()}
_ROOT = Path(__file__).parents[2]
_RULES = _ROOT / "deploy/prometheus"
_TESTS = _ROOT / "tests/foreign/rules/alerts_test.yml"
_METRIC = re.compile(
    r"\b(?:tallygate|gen_ai_(?:server|client)|process)_\w+(?=[\s{)\[]|$)|\btallygate:[\w:]+|\bup(?=\{)"
)
_ALERT = re.compile(r"\bTallygate[A-Z]\w+")
_SUFFIXES = ("_bucket", "_sum", "_count")
_OF_OTHERS = frozenset(
    {
        "up",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
    }
)
_LABELS = re.compile(r"(?:by|without) \(([^)]*)\)")
_OF_SCRAPING = frozenset({"role", "instance", "job", "le"})


def _rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((_RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDED = {rule["record"] for rule in _rules("recording.yml")}
ALERTS = {rule["alert"]: rule for rule in _rules("alerts.yml")}


def _expressions() -> Iterator[str]:
    """Of all panels and rules."""
    for board in BOARDS:
        for row in board.rows:
            for panel in row.panels:
                yield from (query.expr for query in panel.queries)
    yield from (rule["expr"] for rule in chain(_rules("recording.yml"), _rules("alerts.yml")))


def _metric_of(name: str) -> str:
    """The listed name behind a sample of it."""
    for suffix in _SUFFIXES:
        bare = name.removesuffix(suffix)
        if bare in METRICS and METRICS[bare].kind == "histogram":
            return bare
    return name


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_a_dashboard_is_what_its_panels_make(board: Board) -> None:
    """`make dashboards` writes it."""
    assert (FOLDER / f"{board.uid}.json").read_text() == board_json(board)


def test_no_dashboard_is_left_over() -> None:
    """Each file is one of the list, and no two are taken for one another."""
    assert {path.stem for path in FOLDER.glob("*.json")} == {board.uid for board in BOARDS}
    assert len({board.title for board in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("expr", sorted(set(_expressions())))
def test_a_query_names_metrics_and_labels_that_exist(expr: str) -> None:
    """A renamed metric must not leave an empty panel or an alert that never fires."""
    names = {_metric_of(name) for name in _METRIC.findall(expr)}
    labels = {label.strip() for found in _LABELS.findall(expr) for label in found.split(",")}
    known = {label for name in names & set(METRICS) for label in METRICS[name].labels}

    assert names
    assert names <= set(METRICS) | RECORDED | _OF_OTHERS
    assert labels <= known | _OF_SCRAPING


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: str) -> None:
    """And how urgent it is; its runbook is a file here."""
    rule = ALERTS[alert]

    assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] in {f"deploy/runbooks/{p.name}" for p in runbooks()}


@pytest.mark.parametrize("path", runbooks(), ids=lambda path: path.stem)
def test_a_runbook_names_the_alerts_that_lead_to_it(path: Path) -> None:
    """And no others: whoever holds either has both."""
    lead_here = {
        alert
        for alert, rule in ALERTS.items()
        if rule["annotations"]["runbook_url"] == f"deploy/runbooks/{path.name}"
    }

    assert set(_ALERT.findall(path.read_text(encoding="utf-8"))) == lead_here


def test_the_unit_tests_of_the_rules_make_each_alert_fire_and_clear() -> None:
    """`make panels` lets promtool run them."""
    cases = [
        case
        for test in yaml.safe_load(_TESTS.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
    ]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    clears = {case["alertname"] for case in cases if not case["exp_alerts"]}

    assert fires == clears == set(ALERTS)


def test_every_process_is_scraped() -> None:
    """With the label that queries go by."""
    (job,) = yaml.safe_load((_RULES / "prometheus.yml").read_text())["scrape_configs"]
    roles = {target["labels"]["role"] for target in job["static_configs"]}

    assert roles == {"ingress", "batches", "limiter_worker", "dispatcher", "accounting", "admin"}
