"""The line for the history says what its columns say."""

from __future__ import annotations

from pathlib import Path

from deploy.bench.connection import OK
from deploy.bench.process_cost import Cost
from deploy.bench.report import Sample, make_report
from tests.load.history import history_line, render_relative

HISTORY = Path(__file__).parents[2] / "docs" / "bench-history.md"


def _cost(cpu_ms: float) -> Cost:
    return Cost(cpu_ms, 0.1, 70.0)


def test_the_line_has_the_busiest_closed_loop_and_the_open_one() -> None:
    """Our processes are summed, whichever replica; brokers, stores, backend and driver are not ours."""
    costs = {
        "ingress-0": _cost(0.5),
        "dispatcher-1": _cost(1.0),
        "kafka": _cost(0.4),
        "ledger": _cost(0.3),
        "bus": _cost(0.05),
        "fake backend": _cost(9.0),
    }
    reports = [
        make_report("closed 8", [Sample(OK, 0.001)], 1.0, {}),
        make_report("closed 64", [Sample(OK, 0.1), Sample(OK, 0.2)], 1.0, costs),
        make_report("open 50/s", [Sample(OK, 0.01)], 1.0, {}),
    ]

    line = history_line(reports, "abc1234", "2026-11-26", "2 cores")

    assert line == (
        "| abc1234 | 2026-11-26 | 2 cores | 2 | 100.0 / 200.0 | 10.0 / 10.0 "
        "| 1.50 | 0.40 | 0.30 | 0.05 |  |"
    )


def test_cpu_of_our_processes_is_told_in_units_of_the_reference_work() -> None:
    """A run without a reference has no line."""
    costs = {"ingress-0": _cost(0.5), "dispatcher-0": _cost(1.0), "kafka": _cost(0.4)}
    reports = [
        make_report("closed 8", [Sample(OK, 0.001)], 1.0, costs),
        make_report("closed 64", [Sample(OK, 0.001)], 1.0, costs, reference_cpu_ms=1.2),
    ]

    assert render_relative(reports) == (
        "closed 64: CPU of our processes 1.25 x the reference work (1.20 ms here)"
    )


def test_every_row_has_the_columns_of_the_table() -> None:
    """A pasted line fits."""
    rows = [line for line in HISTORY.read_text(encoding="utf-8").split("\n") if line[:1] == "|"]

    assert len(rows) > 2
    assert {row.count("|") for row in rows} == {12}
