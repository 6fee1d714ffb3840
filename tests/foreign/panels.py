"""Every query of every dashboard, asked of a real Prometheus that scrapes a stack under load and in trouble: `make panels`.

A panel is asked as Grafana asks it, over the whole run. None may fail and none may be empty; what a panel shows instead of nothing
(`or on () vector(0)`) does not count, so what it is about has to happen: refusals, a dispatcher that hangs until its calls are
reaped, a backend that hangs, a lost ledger, wrong books, garbage in the log, limits that are spent. The pages of all processes are judged by promtool, and the rules by their unit tests.
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

from tests.foreign import faults
from tests.foreign.faults import Scene
from tests.foreign.prometheus import RULE_TESTS, RULES, Prometheus, promtool, running_prometheus
from tests.foreign.watched_stack import Traffic, Watched, traffic, watched_stack
from tests.support.fakes.running_backend import running_backend
from tests.support.fakes.running_budget_service import running_budget_service

BOARDS: Final = Path(__file__).parents[2] / "deploy/grafana"
_INSTEAD_OF_NOTHING: Final = " or on () vector(0)"
_INTERVALS: Final = {"$__rate_interval": "30s", "$__range": "5m"}
_STEP_S: Final = 5.0
_SCRAPED_WITHIN_S: Final = 30.0
_SEEN_S: Final = 5.0
"""A few scrapes."""
_LOADED_S: Final = 20.0
_UNSERVED_S: Final = 12.0
_HANGS_S: Final = 48.0
"""A lease, and the grace that the reaper gives its owner."""
_CLOSED_S: Final = 5.0
_RECOVERS_S: Final = 15.0
_ZERO: Final = {"sum(tallygate_ledger_foreign_shards)"}
"""A store of another log is not made here: `tests/unit/accounting/test_identity.py` does."""
_OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of a panel, and what came of it."""

    board: str
    panel: str
    expr: str
    samples: int
    largest: float = 0.0
    error: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the panel shows something, and what it is about happened."""
        return self.samples > 0 and not self.error and (self.largest > 0 or self.expr in _ZERO)

    def __str__(self) -> str:
        shown = self.error or f"`{self.expr}`"
        return f"| {self.board} | {self.panel} | {shown} | {self.samples:,} | {self.largest:.3g} |"


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Panel and expression of each query of a dashboard, as Grafana would ask it."""
    for panel in board["panels"]:
        for each in (panel, *panel.get("panels", ())):
            for target in each.get("targets", ()):
                expr = target["expr"]
                for name, value in _INTERVALS.items():
                    expr = expr.replace(name, value)
                yield each["title"], expr


def ask(prometheus: Prometheus, began_s: float) -> Iterator[Asked]:
    """Ask everything that is committed."""
    for path in sorted(BOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        for panel, expr in queries(board):
            bare = expr.removesuffix(_INSTEAD_OF_NOTHING)
            try:
                prometheus.drawn(expr, began_s, _STEP_S)
                drawn = prometheus.drawn(bare, began_s, _STEP_S)
            except RuntimeError as error:
                yield Asked(board["title"], panel, bare, 0, error=str(error))
                continue
            found = [value for value in drawn if not math.isnan(value)]
            yield Asked(board["title"], panel, bare, len(found), max(found, default=0.0))


async def check_pages(watched: Watched) -> list[str]:
    """Judge the pages by promtool, in the text format; the other one has its content type. A line for each."""
    lines = []
    for target in watched.targets():
        text = (await watched.page(target)).text
        said = await asyncio.to_thread(promtool, "check", "metrics", given=text)
        other = await watched.page(target, _OPEN_METRICS)
        kind = other.headers["content-type"].partition(";")[0]
        series = sum(not line.startswith("#") for line in text.splitlines())
        lines.append(
            f"{target.role:<15} promtool check metrics: {said or 'nothing to say'}; {series} series; asked for it: {kind}"
        )
    return lines


async def _until_scraped(prometheus: Prometheus) -> None:
    """What happens before the first scrape has not risen for Prometheus. Raises ``TimeoutError``."""
    async with asyncio.timeout(_SCRAPED_WITHIN_S):
        while {*(await asyncio.to_thread(prometheus.targets)).values()} != {"up"}:  # noqa: ASYNC110
            await asyncio.sleep(1)


async def trouble(scene: Scene) -> None:
    """What panels about failures are about."""
    await asyncio.sleep(_SEEN_S)
    async with faults.poison(scene), faults.refused_entry(scene), faults.overridden(scene):
        await asyncio.sleep(_LOADED_S)
    async with faults.backends_hang(1)(scene):
        await asyncio.sleep(_UNSERVED_S)
    async with faults.hangs("dispatcher-0")(scene):
        await asyncio.sleep(_HANGS_S)
    await asyncio.sleep(_RECOVERS_S)
    async with faults.ledger_lost(scene):
        await asyncio.sleep(_CLOSED_S)
    await faults.until_whole(scene.watched)
    await asyncio.sleep(_RECOVERS_S)
    async with faults.wrong_books(scene):
        await asyncio.sleep(_SEEN_S)
    print(f"ledger and log differ by {await scene.watched.verify()}", flush=True)
    await asyncio.sleep(_RECOVERS_S)


async def run(folder: Path) -> int:
    """Start, load, trouble, ask, print. 1 when something failed or was empty."""
    print(promtool("check", "config", str(RULES / "prometheus.yml")))
    print(
        promtool(
            "check", "rules", *(str(RULES / f"{name}.yml") for name in ("recording", "alerts"))
        )
    )
    print(promtool("test", "rules", str(RULE_TESTS)), flush=True)
    with (
        running_backend("fake", folder / "calls.jsonl") as backend,
        running_budget_service(folder) as service,
    ):
        service.budget("asked", "100")
        environment = {"TALLYGATE_BUDGET_SERVICE_ENDPOINT": service.url}
        async with watched_stack(folder / "stack", [backend], environment) as watched:
            with running_prometheus(folder / "prometheus", watched.targets()) as prometheus:
                began_s = time.time()
                async with traffic(watched) as load:
                    await _until_scraped(prometheus)
                    await trouble(Scene(watched, load))
                    asked = await asyncio.to_thread(lambda: list(ask(prometheus, began_s)))
                    latency = "tallygate_request_duration_seconds_bucket"
                    exemplars = await asyncio.to_thread(prometheus.exemplars, latency, began_s)
                pages = await check_pages(watched)
                return _tell(asked, pages, exemplars, prometheus, load)


def _tell(
    asked: list[Asked],
    pages: list[str],
    exemplars: list[dict[str, Any]],
    prometheus: Prometheus,
    load: Traffic,
) -> int:
    print("\n".join(pages))
    print(f"scraped: {prometheus.targets()}; answered meanwhile: {dict(load.answered)}")
    print(f"exemplars of request durations: {len(exemplars)}, such as {exemplars[:1]}\n")
    print("| dashboard | panel | query | samples | largest |\n|---|---|---|---|---|")
    print("\n".join(map(str, asked)))
    bad = [each for each in asked if not each.is_good]
    boards, panels = len({a.board for a in asked}), len({(a.board, a.panel) for a in asked})
    print(
        f"\n{boards} dashboards, {panels} panels, {len(asked)} queries; failed or empty: {len(bad)}"
    )
    print(*(f"BAD: {each}" for each in bad), sep="\n")
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
