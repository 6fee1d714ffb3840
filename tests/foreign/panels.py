"""Every query of every dashboard, asked of a real Prometheus that scrapes a stack under load: `make panels`.

None may fail and none may be empty. The pages of all processes are judged by promtool, and the rules by their unit tests.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.foreign.prometheus import Prometheus, promtool, running_prometheus
from tests.foreign.watched_stack import Traffic, Watched, traffic, watched_stack
from tests.support.fakes.running_backend import running_backend

BOARDS: Final = Path(__file__).parents[2] / "deploy/grafana"
_RULE_TESTS: Final = Path(__file__).parent / "rules/alerts_test.yml"
_LOADED_S: Final = 45.0
"""A few of Grafana's intervals, and two rounds of what processes look at by themselves."""
_INTERVALS: Final = {"$__rate_interval": "30s", "$__range": "5m"}
_OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of a panel, and what came of it."""

    board: str
    panel: str
    expr: str
    samples: int
    error: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the panel shows something."""
        return self.samples > 0 and not self.error


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Panel and expression of each query of a dashboard, as Grafana would ask it."""
    for panel in board["panels"]:
        for each in (panel, *panel.get("panels", ())):
            for target in each.get("targets", ()):
                expr = target["expr"]
                for name, value in _INTERVALS.items():
                    expr = expr.replace(name, value)
                yield each["title"], expr


def ask(prometheus: Prometheus) -> list[Asked]:
    """Ask everything that is committed."""
    asked = []
    for path in sorted(BOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        for panel, expr in queries(board):
            try:
                found = [value for value in prometheus.samples(expr) if not math.isnan(value)]
            except RuntimeError as error:
                asked.append(Asked(board["title"], panel, expr, 0, str(error)))
            else:
                asked.append(Asked(board["title"], panel, expr, len(found)))
    return asked


def check_pages(watched: Watched) -> list[str]:
    """Judge the pages by promtool, in the text format; the other one has its content type. A line for each."""
    lines = []
    for name, url in watched.pages.items():
        text = httpx.get(url, timeout=10, trust_env=False).raise_for_status().text
        said = promtool("check", "metrics", given=text) or "nothing to say"
        wanted = {"accept": _OPEN_METRICS}
        other = httpx.get(url, headers=wanted, timeout=10, trust_env=False).raise_for_status()
        kind = other.headers["content-type"].partition(";")[0]
        series = sum(not line.startswith("#") for line in text.splitlines())
        lines.append(f"{name:<18} promtool: {said}; {series} series; asked for it: {kind}")
    return lines


async def run(folder: Path) -> int:
    """Start, load, ask, print. 1 when something failed or was empty."""
    print(promtool("check", "config", str(BOARDS.parent / "prometheus/prometheus.yml")))
    print(promtool("test", "rules", str(_RULE_TESTS)))
    with running_backend("fake", folder / "calls.jsonl") as backend:
        async with watched_stack(folder / "stack", [backend], {}) as watched:
            with running_prometheus(folder / "prometheus", watched.pages) as prometheus:
                async with traffic(watched) as load:
                    await asyncio.sleep(_LOADED_S)
                    asked = await asyncio.to_thread(ask, prometheus)
                    exemplars = prometheus.exemplars("tallygate_request_duration_seconds_bucket")
                pages = await asyncio.to_thread(check_pages, watched)
                return _tell(asked, pages, exemplars, prometheus, load)


def _tell(
    asked: list[Asked],
    pages: list[str],
    exemplars: list[dict[str, Any]],
    prometheus: Prometheus,
    load: Traffic,
) -> int:
    print("\n".join(pages))
    print(f"scraped: {prometheus.targets()}; sent meanwhile: {dict(load.answered)}")
    print(f"exemplars of request durations: {len(exemplars)}, such as {exemplars[:1]}")
    print(f"{'dashboard':<28}{'panel':<42}{'samples':>8}  query")
    for each in asked:
        print(f"{each.board:<28}{each.panel:<42}{each.samples:>8}  {each.error or each.expr}")
    bad = [each for each in asked if not each.is_good]
    boards, panels = len({a.board for a in asked}), len({(a.board, a.panel) for a in asked})
    print(
        f"{boards} dashboards, {panels} panels, {len(asked)} queries; failed or empty: {len(bad)}"
    )
    is_scraped = all(state == "up" for state in prometheus.targets().values())
    return 0 if is_scraped and exemplars and not bad else 1


def main() -> None:
    """Run it in a folder of its own."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tallygate-panels-") as folder:
        status = asyncio.run(run(Path(folder)))
    print(f"{time.monotonic() - began_s:.0f} s")
    sys.exit(status)


if __name__ == "__main__":
    main()
