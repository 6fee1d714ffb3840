"""The ledger is lost under load, in every way that a store can lose: what clients see, and what stands afterwards.

`python -m tests.chaos.ledger_loss --primaries 1|3 --scenario flushall|deleted|cut|rolled-back|promoted|zombie`:
for each scenario a stack of its own, organizations with tight budgets in every shard, keyed requests, streams,
jobs and requests without a key, the loss in the middle, load for a minute more. No oracle is a counter of the
gateway: backends log what they did, clients what they were told. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import msgspec

from tests.chaos.ceilings import Tenant
from tests.chaos.ledger_loss_run import Loads, Run, lose
from tests.chaos.loss_findings import LossFindings, judge
from tests.chaos.losses import NEEDS_REPLICAS, SCENARIOS
from tests.chaos.rig import running_rig
from tests.chaos.timeline import render_seconds, seconds_of
from tests.support.harness.store_faults import orgs_everywhere
from tests.support.harness.wanted_ledger import PRIMARIES, REPLICAS

BUDGETS_NANO_USD: Final = (1_500_000, 4_000_000, 8_000_000, 24_000_000)
"""Spent before the loss, about then, later, and hardly ever."""
SHARDS: Final = 4
"""Of an embedded stack."""
ORGS_EACH: Final = 12
SHOWN_MAX: Final = 5
_BEFORE_SHOWN_S: Final = 3


@dataclass(frozen=True)
class Verdict:
    """A scenario's run and what was found."""

    scenario: str
    run: Run
    findings: LossFindings


def tight() -> tuple[Tenant, ...]:
    """Organizations of every budget in every shard."""
    return tuple(
        Tenant(org, "nano_usd", BUDGETS_NANO_USD[place % len(BUDGETS_NANO_USD)])
        for orgs in orgs_everywhere(SHARDS, ORGS_EACH).values()
        for place, org in enumerate(orgs)
    )


def report(verdict: Verdict) -> str:
    """Everything that a reader wants to know, the clients' seconds last."""
    run, found = verdict.run, verdict.findings
    lines = [f"{verdict.scenario}: {'; '.join(run.told)}"]
    lines += [f"requests {len(run.evidence.accepted)}, calls {len(run.evidence.calls)}"]
    lines += [f"refusals judged {found.refusals}, replays {found.replays}, jobs {found.jobs}"]
    for number, again in sorted(run.shards.items()):
        if again is None:
            lines.append(f"shard {number}: never closed")
            continue
        times = (again.ready_s, again.claims_s, again.complete_s)
        said = [f"{'never' if t is None else f'{t - run.lost_s:.1f} s'}" for t in times]
        lines.append(
            f"shard {number}: epoch {again.epoch}, ready after {said[0]}, claims {said[1]}, complete {said[2]}"
        )
    for each in fields(LossFindings):
        value = getattr(found, each.name)
        if isinstance(value, tuple):
            lines.append(f"{each.name:<14}{len(value):>4}  {'; '.join(value[:SHOWN_MAX])[:1_000]}")
    tries = Counter(t.result for client in run.evidence.clients for t in client.tries)
    lines.append(f"tries: {dict(tries.most_common())}")
    seconds = seconds_of(run.evidence.clients, run.lost_s)
    last = int(run.stopped_s - run.lost_s)
    return "\n".join([*lines, render_seconds(seconds, -_BEFORE_SHOWN_S, last)])


def main() -> int:
    """Read the command line, run the scenarios, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--primaries", type=int, choices=(1, 3), default=1)
    options.add_argument("--scenario", choices=SCENARIOS, nargs="+", default=[])
    options.add_argument("--rate", type=float, default=100.0, help="requests per second")
    options.add_argument("--before", type=float, default=30.0, help="seconds until the loss")
    options.add_argument("--after", type=float, default=60.0, help="seconds of load after it")
    options.add_argument("--folder", type=Path, help="keeps logs, state and reports there")
    chosen = options.parse_args()
    is_cluster = chosen.primaries > 1
    possible = [name for name in SCENARIOS if is_cluster or name not in NEEDS_REPLICAS]
    wanted = chosen.scenario or possible
    if impossible := sorted(set(wanted) - set(possible)):
        options.error(f"{', '.join(impossible)} needs --primaries 3: a replica to be promoted")
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-ledger-loss-"))
    print(f"logs and reports under {folder}", flush=True)
    loads = Loads(chosen.rate, chosen.before, chosen.after)
    is_clean = True
    for name in wanted:
        os.environ[PRIMARIES] = str(chosen.primaries)
        os.environ[REPLICAS] = "1" if name in NEEDS_REPLICAS else "0"
        verdict = run_one(name, loads, folder / name)
        text = report(verdict)
        history = b"\n".join(map(msgspec.json.encode, verdict.run.evidence.clients))
        (folder / name / "history.jsonl").write_bytes(history)
        (folder / name / "report.txt").write_text(f"{text}\n{verdict.findings}\n")
        print(f"{text}\n{name}: {'CLEAN' if verdict.findings.is_clean else 'FINDINGS'}", flush=True)
        is_clean &= verdict.findings.is_clean
    return 0 if is_clean else 1


def run_one(name: str, loads: Loads, folder: Path) -> Verdict:
    """One scenario on a stack of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_rig(folder, tight()) as rig:
        run = asyncio.run(lose(rig, name, loads))
        return Verdict(name, run, judge(run))


if __name__ == "__main__":
    sys.exit(main())
