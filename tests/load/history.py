"""The line of a bench run for docs/bench-history.md: what is compared from commit to commit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from deploy.bench.process_cost import Cost
from deploy.bench.report import Report
from deploy.embedded.roles import ROLES

_STORES: Final = ("kafka", "ledger", "bus")


def history_line(reports: Sequence[Report], commit: str, day: str, machine: str) -> str:
    """A row of the table: the busiest closed loop, the open loop, and CPU of the former per request."""
    closed = [report for report in reports if report.name.startswith("closed")]
    busiest = max(closed, key=lambda report: int(report.name.split()[1]))
    steady = next(report for report in reports if report.name.startswith("open"))
    costs = busiest.processes
    cells = [
        commit,
        day,
        machine,
        f"{busiest.requests_per_s:.0f}",
        _latency(busiest),
        _latency(steady),
        f"{own_cpu_ms(busiest):.2f}",
        *(f"{_sum_ms(_named(costs, store)):.2f}" for store in _STORES),
        "",
    ]
    return "| " + " | ".join(cells) + " |"


def own_cpu_ms(report: Report) -> float:
    """CPU per request of all processes of the gateway together."""
    costs = report.processes.items()
    return _sum_ms(cost for name, cost in costs if name.rpartition("-")[0] in ROLES)


def render_relative(reports: Iterable[Report]) -> str:
    """That CPU in units of the reference work of the same run, which a slow machine does not move as much."""
    lines = [
        f"{report.name}: CPU of our processes {own_cpu_ms(report) / unit_ms:.2f} x the reference work"
        f" ({unit_ms:.2f} ms here)"
        for report in reports
        if (unit_ms := report.reference_cpu_ms)
    ]
    return "\n".join(lines)


def commit_here() -> str:
    """The commit of this tree, with a plus where something is not committed; a dash outside of git."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "-"


def _latency(report: Report) -> str:
    found = report.latency
    return "-" if found is None else f"{found.p50_ms:.1f} / {found.p99_ms:.1f}"


def _named(costs: Mapping[str, Cost], name: str) -> Iterable[Cost]:
    return (cost for each, cost in costs.items() if each == name)


def _sum_ms(costs: Iterable[Cost]) -> float:
    return sum(cost.cpu_ms_per_request or 0.0 for cost in costs)
