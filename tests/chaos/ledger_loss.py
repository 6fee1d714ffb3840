"""The ledger is lost under load, in every way that a store can lose: what clients see, and what stands afterwards.

`python -m tests.chaos.ledger_loss --primaries 1 3 --scenario flushall deleted cut rolled-back promoted zombie cut-off
owner-stopped owner-killed owner-away twice --out FILE`: for each scenario a stack of its own, organizations with tight
budgets in every shard, keyed requests, streams, jobs and requests without a key, the loss in the middle, load for a minute more.
No oracle is a counter of the gateway: backends log what they did, clients what they were told. Without arguments all
scenarios run, on one store and on three primaries, and a summary ends it. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tests.chaos.ceilings import Tenant
from tests.chaos.debuggable import allow_debugging
from tests.chaos.ledger_loss_run import Loads, Run, lose
from tests.chaos.loss_findings import LossFindings, judge
from tests.chaos.loss_report import report, summary, verdict_of
from tests.chaos.losses import SCENARIOS, Scenario
from tests.chaos.rig import running_rig
from tests.support.harness.store_faults import orgs_everywhere
from tests.support.harness.wanted_ledger import PRIMARIES, REPLICAS

BUDGETS_NANO_USD: Final = (1_500_000, 4_000_000, 8_000_000, 24_000_000)
"""Spent before the loss, about then, later, and hardly ever; of a loss after 30 s of 100 requests/s."""
_BUDGETED_REQUESTS: Final = 3_000
SHARDS: Final = 4
"""Of an embedded stack."""
ORGS_EACH: Final = 12
_WITHIN_S: Final = 540.0
"""One run, from its first request to its judgement."""


@dataclass(frozen=True)
class Task:
    """One run of a scenario."""

    name: str
    primaries: int
    loads: Loads

    @property
    def scenario(self) -> Scenario:
        """What it does."""
        return SCENARIOS[self.name]

    def __str__(self) -> str:
        """For people, and for a folder."""
        return f"{self.name}-{self.primaries}"


def tight(loads: Loads, lead_s: float) -> tuple[Tenant, ...]:
    """Organizations of every budget in every shard; as much is spent before the loss whatever the load."""
    before = loads.rate_per_s * (loads.before_s + lead_s)
    budgets = [int(amount * before / _BUDGETED_REQUESTS) for amount in BUDGETS_NANO_USD]
    return tuple(
        Tenant(org, "nano_usd", budgets[place % len(budgets)])
        for orgs in orgs_everywhere(SHARDS, ORGS_EACH).values()
        for place, org in enumerate(orgs)
    )


def tasks(names: list[str], primaries: list[int], loads: Loads) -> Iterator[Task]:
    """What of it there can be."""
    for number in primaries:
        for name in names or SCENARIOS:
            if number in SCENARIOS[name].primaries:
                yield Task(name, number, loads)


def run_one(task: Task, folder: Path) -> tuple[Run, LossFindings]:
    """One scenario on a stack of its own."""
    scenario = task.scenario
    os.environ[PRIMARIES] = str(task.primaries)
    os.environ[REPLICAS] = str(scenario.ledger_replicas)
    folder.mkdir(parents=True, exist_ok=True)
    replicas = {"accounting": scenario.accountings} if scenario.accountings > 1 else None
    with running_rig(folder, tight(task.loads, scenario.lead_s), replicas=replicas) as rig:
        if scenario.may_debug:
            asyncio.run(allow_debugging(rig))
        run = asyncio.run(asyncio.wait_for(lose(rig, scenario, task.loads), _WITHIN_S))
        return run, judge(run)


def keep(folder: Path, run: Run, text: str) -> None:
    """What may be looked at again."""
    history = b"\n".join(map(msgspec.json.encode, run.evidence.clients))
    (folder / "history.jsonl").write_bytes(history)
    (folder / "report.txt").write_text(f"{text}\n")


def main() -> int:
    """Read the command line, run the scenarios, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--primaries", type=int, choices=(1, 3), nargs="+", default=[1, 3])
    options.add_argument("--scenario", choices=SCENARIOS, nargs="+", default=[])
    options.add_argument("--rate", type=float, default=100.0, help="requests per second")
    options.add_argument("--before", type=float, default=30.0, help="seconds until the loss")
    options.add_argument("--after", type=float, default=60.0, help="seconds of load after it")
    options.add_argument(
        "--within", type=float, default=5_400.0, help="seconds in which runs begin"
    )
    options.add_argument("--folder", type=Path, help="keeps logs, state and reports there")
    options.add_argument("--out", type=Path, help="a file to which all that is printed is added")
    chosen = options.parse_args()
    loads = Loads(chosen.rate, chosen.before, chosen.after)
    wanted = list(tasks(chosen.scenario, chosen.primaries, loads))
    if not wanted:
        options.error("none of these scenarios can be on so many primaries")
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-ledger-loss-"))

    def tell(text: str) -> None:
        print(text, flush=True)
        if chosen.out is not None:
            with chosen.out.open("a") as kept:
                kept.write(f"{text}\n")

    tell(f"commit {_commit()}, {' '.join(sys.argv[1:])}; logs and reports under {folder}")
    summaries, are_clean = [], True
    end_s = time.monotonic() + chosen.within
    for task in wanted:
        began_s = time.monotonic()
        if began_s > end_s:
            summaries.append(f"{task!s:<18}not run: no time was left")
            are_clean = False
            continue
        try:
            run, found = run_one(task, folder / str(task))
        except Exception as error:  # noqa: BLE001  # total: the other runs are wanted all the same
            line, is_clean = f"broke off: {error!r}", False
        else:
            text = report(str(task), run, found)
            keep(folder / str(task), run, f"{text}\n{found}")
            tell(f"{text}\n{task}: {verdict_of(found)}\n")
            line, is_clean = summary(run, found), found.is_clean
        summaries.append(f"{task!s:<18}{line}; took {time.monotonic() - began_s:.0f} s")
        are_clean &= is_clean
    tell("\n".join(["Summary", *summaries]))
    return 0 if are_clean else 1


def _commit() -> str:
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
