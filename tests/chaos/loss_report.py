"""What a run in which the ledger was lost says to people; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Final

from tests.chaos.check import cost_nano_usd
from tests.chaos.evidence import Evidence
from tests.chaos.ledger_loss_run import Run
from tests.chaos.loss_findings import LossFindings
from tests.chaos.timeline import render_seconds, seconds_of

SHOWN_MAX: Final = 5
_SHOWN_CHARACTERS: Final = 1_000
_BEFORE_SHOWN_S: Final = 3


def verdict_of(found: LossFindings) -> str:
    """One word."""
    return "CLEAN" if found.is_clean else "FINDINGS"


def summary(run: Run, found: LossFindings) -> str:
    """The figures that are asked for first, in one line."""
    difference = "unknown" if run.verified.difference is None else run.verified.difference
    parts = (
        f"{run.rate_per_s:.1f} requests/s",
        f"ready {_longest(run, 'ready_s')}",
        f"claims {_longest(run, 'claims_s')}",
        f"complete {_longest(run, 'complete_s')}",
        f"overspend {overspend(run.evidence)} nano-USD",
        f"wrong 402 {len(found.refused_wrongly)} of {found.refusals}",
        f"verify --full {difference}",
        verdict_of(found),
    )
    return ", ".join(parts)


def overspend(evidence: Evidence) -> int:
    """What backends worked off beyond budgets, all organizations together, in nano-USD."""
    orgs = {request.request_id: request.org for request in evidence.accepted}
    spent: Counter[str] = Counter()
    for call in evidence.calls:
        spent[orgs.get(call.start.request_id or "", "")] += cost_nano_usd(call)
    budgets = [each for each in evidence.ceilings if each.unit == "nano_usd"]
    return sum(max(0, spent[each.org] - each.limit) for each in budgets)


def report(name: str, run: Run, found: LossFindings) -> str:
    """Everything that a reader wants to know, the clients' seconds last."""
    lines = [f"{name}: {'; '.join(run.told)}", summary(run, found)]
    lines += [f"requests {len(run.evidence.accepted)}, calls {len(run.evidence.calls)}"]
    lines += [f"refusals judged {found.refusals}, replays {found.replays}, jobs {found.jobs}"]
    lines += [
        f"{server}: organizations by shard {dict(sorted(shards.items()))}"
        for server, shards in sorted(run.held.items())
    ]
    lines += _shards(run)
    for each in fields(LossFindings):
        value = getattr(found, each.name)
        if isinstance(value, tuple):
            shown = "; ".join(value[:SHOWN_MAX])[:_SHOWN_CHARACTERS]
            lines.append(f"{each.name:<17}{len(value):>4}  {shown}".rstrip())
    tries = Counter(t.result for client in run.evidence.clients for t in client.tries)
    lines.append(f"tries: {dict(tries.most_common())}")
    seconds = seconds_of(run.evidence.clients, run.lost_s)
    last = int(run.stopped_s - run.lost_s)
    return "\n".join([*lines, render_seconds(seconds, -_BEFORE_SHOWN_S, last)])


def _shards(run: Run) -> list[str]:
    lines = []
    for number, again in sorted(run.shards.items()):
        if again is None:
            lines.append(f"shard {number}: never closed")
            continue
        times = (again.ready_s, again.claims_s, again.complete_s)
        said = [_after(at_s, run.lost_s) for at_s in times]
        lines.append(
            f"shard {number}: epoch {again.epoch}, ready after {said[0]}, claims {said[1]}, complete {said[2]}"
        )
    return lines


def _longest(run: Run, what: str) -> str:
    """Of all shards that were closed."""
    times = [getattr(again, what) for again in run.shards.values() if again is not None]
    known = [at_s for at_s in times if at_s is not None]
    return _after(max(known) if known and len(known) == len(times) else None, run.lost_s)


def _after(at_s: float | None, lost_s: float) -> str:
    return "never" if at_s is None else f"{at_s - lost_s:.1f} s"
