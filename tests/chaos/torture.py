"""The long form: every process is killed again and again in random order, while limits bind.

`python -m tests.chaos.torture --seed 1 2 3`: one line a seed; exit code 1 when anything was lost,
doubled, overspent or kept on hold. Beside four organizations with wide budgets, six run into a
budget, quota or concurrency limit all the time.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.ceilings import tight_tenants
from tests.chaos.check import Findings
from tests.chaos.evidence import OK
from tests.chaos.rig import ROLES, running_rig
from tests.chaos.run import Report, render, run

LISTED_MAX = 1_000
"""Findings that the report lists at most."""


def main() -> int:
    """Read the command line, run each seed on a stack of its own, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=2, help="kills of every role")
    options.add_argument("--seed", type=int, nargs="+", default=[1])
    options.add_argument("--seconds-each", type=float, default=10.0, help="from kill to kill")
    options.add_argument("--roles", default=",".join(ROLES), help="comma-separated")
    options.add_argument("--folder", type=Path, help="keeps logs, state and reports there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-torture-"))
    print(f"logs and reports under {folder}", flush=True)
    is_clean = True
    for seed in chosen.seed:
        roles = chosen.roles.split(",") * chosen.rounds
        random.Random(seed).shuffle(roles)
        own = folder / f"seed-{seed}"
        own.mkdir(parents=True, exist_ok=True)
        with running_rig(own, tight_tenants()) as rig:
            report = run(rig, roles, chosen.seconds_each, seed)
        (own / "report.txt").write_text(f"{render(report)}\n{_details(report)}\n")
        print(f"seed {seed}: {summary(report)}", flush=True)
        is_clean &= report.findings.is_clean
    return 0 if is_clean else 1


def summary(report: Report) -> str:
    """The run in one line: what must be nothing first, then how much was asked of it."""
    found = report.findings
    defects = {
        "lost": found.lost,
        "doubled": (*found.doubled, *found.contradicted),
        "unbilled": found.unbilled,
        "overspent": found.overspent,
        "held or different": found.unreleased,
        "misinformed": found.misinformed,
    }
    tries = Counter(t.result.partition(" ")[0] for c in report.evidence.clients for t in c.tries)
    return (
        ", ".join(f"{what} {len(ids)}" for what, ids in defects.items())
        + f"; {len(report.crashes.strikes)} kills, {len(report.evidence.accepted)} requests,"
        f" {len(report.evidence.calls)} calls, {tries[OK]} answers,"
        f" limits hit {tries['402'] + tries['429']} times, {report.crashes.watch.looks} looks"
    )


def _details(report: Report) -> str:
    """Use of each limit by organization, and every finding."""
    lines = []
    for ceiling in report.evidence.ceilings:
        ours = [c for c in report.evidence.clients if c.org == ceiling.org]
        results = Counter(t.result for client in ours for t in client.tries)
        lines.append(f"{ceiling}: {dict(results.most_common())}")
    for name in Findings.__dataclass_fields__:
        lines += [f"{name}: {text}" for text in getattr(report.findings, name)[:LISTED_MAX]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
