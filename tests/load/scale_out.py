"""`make scale-out`: one, two and three of each process, each held to a share of a core, so that they are the limit.

`python -m tests.load.scale_out [--share 0.2] [--seconds 10] [--most 3]` starts a stack for each number, six partitions
and 120 organizations, drives a closed loop at every ingress, and prints requests/s and CPU per request of each kind of
process, and from that the cores for more. Whether the machine was the limit instead is told by how busy it was.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deploy.bench import tenants_in_bulk
from deploy.bench.bench import STORES
from deploy.bench.connection import OK
from deploy.bench.driving import DriverFailed, driven
from deploy.bench.load import Driven, Load
from deploy.bench.running_backend import bench_backend
from deploy.bench.target import Target, options, own_stack
from deploy.embedded.ports import HOST
from deploy.embedded.problem import StackError
from tests.load.holding import held

ROLES: Final = ("ingress", "limiter_worker", "dispatcher", "accounting")
RATES: Final = (1_000, 10_000, 100_000)
FILLED: Final = 0.6
"""How full a core is planned to be, so that a burst or a lost process finds room."""
FLAT: Final = 0.10
_PARTITIONS: Final = 6
_ORGS: Final = 120
_CONNECTIONS: Final = 64
_WARM_UP_S: Final = 4.0


@dataclass(frozen=True)
class Step:
    """So many of each process: what they did together, and what a request cost, in ms, by kind of process."""

    replicas: int
    per_s: float
    cpu_ms: Mapping[str, float]
    busy: float
    """Share of the machine that was used."""
    failures: int

    @property
    def own_ms(self) -> float:
        """CPU of a request in our processes together."""
        return sum(ms for role, ms in self.cpu_ms.items() if role in ROLES)


def cores(rate_per_s: float, cpu_ms: float) -> float:
    """How many cores a rate takes, none of them filled more than is planned."""
    return rate_per_s * cpu_ms / 1_000 / FILLED


def model(cpu_ms: Mapping[str, float]) -> str:
    """The cores of each kind of process for each rate, as Markdown."""
    heads = [f"{rate:,}/s".replace(",", " ") for rate in RATES]
    rows = [["", "CPU ms a request", *heads], ["---"] * (len(RATES) + 2)]
    for name, ms in [*cpu_ms.items(), ("all", sum(cpu_ms.values()))]:
        rows.append([name, f"{ms:.3f}", *(f"{cores(rate, ms):.1f}" for rate in RATES)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def render(steps: list[Step]) -> str:
    """Each step against the first, as Markdown."""
    names = list(steps[0].cpu_ms)
    rows = [["of each", "requests/s", "against one", *names, "ours", "against one", "machine busy"]]
    rows.append(["---"] * len(rows[0]))
    first = steps[0]
    for step in steps:
        cells = [f"{step.replicas}", f"{step.per_s:.0f}", f"{step.per_s / first.per_s:.2f}"]
        cells += [f"{step.cpu_ms[name]:.3f}" for name in names]
        cells += [f"{step.own_ms:.3f}", f"{step.own_ms / first.own_ms:.2f}", f"{step.busy:.0%}"]
        rows.append(cells)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    is_flat = all(abs(step.own_ms / first.own_ms - 1) <= FLAT for step in steps)
    lines.append(f"\nCPU per request is {'flat' if is_flat else 'not flat'} within {FLAT:.0%}")
    return "\n".join(lines)


async def measure(replicas: int, share: float, seconds: float, folder: Path) -> tuple[Step, str]:
    """One stack with so many of each process, and how they were held."""
    wanted = replace(
        options(folder, dict(os.environ), dict.fromkeys(ROLES, replicas)), partitions=_PARTITIONS
    )
    with bench_backend() as backend:
        async with own_stack(wanted, backend, _tell) as target:
            made = tenants_in_bulk.tenants(_ORGS, _ORGS, "scale")
            await tenants_in_bulk.write(target, made)
            keys = [one.secret for one in made]
            own = {
                name: pid for name, pid in target.pids.items() if name.rpartition("-")[0] in ROLES
            }
            with held(own.values(), share) as how:
                before, runs, after = await _driven(target, replicas, keys, seconds)
    return _step(replicas, runs, (before, after)), how


Times = tuple[float, float]
"""Seconds that all cores were used, and that passed on them."""


async def _driven(
    target: Target, replicas: int, keys: list[str], seconds: float
) -> tuple[Times, list[Driven], Times]:
    """A closed loop at each ingress; the costs are read by the first driver alone."""
    assert target.stack is not None, "it is the bench's own"
    loads = [
        Load(
            url=f"http://{HOST}:{target.stack.ports[f'ingress-{number}']}/v1",
            keys=keys,
            model=target.model,
            loop="closed",
            connections=_CONNECTIONS,
            seconds=_WARM_UP_S + seconds,
            warm_up_s=_WARM_UP_S,
            pids=dict(target.pids) if number == 0 else {},
        )
        for number in range(replicas)
    ]
    before = _machine()
    runs = await asyncio.gather(*map(driven, loads))
    return before, runs, _machine()


def _step(replicas: int, runs: list[Driven], machine: tuple[Times, Times]) -> Step:
    first = runs[0]
    done = sum(len(run.samples) for run in runs)
    per_s = sum(len(run.samples) / run.duration_s for run in runs)
    cpu_ms: dict[str, float] = {}
    for name, cost in first.costs.items():
        role = name.rpartition("-")[0] or name
        kind = role if role in ROLES else name
        if kind in (*ROLES, *STORES):
            used_ms = cost.cpu_share * first.duration_s * 1_000
            cpu_ms[kind] = cpu_ms.get(kind, 0.0) + used_ms / max(1, done)
    (used, passed), (used_after, passed_after) = machine
    failures = sum(sample.outcome != OK for run in runs for sample in run.samples)
    order = {kind: cpu_ms.get(kind, 0.0) for kind in (*ROLES, *STORES)}
    return Step(replicas, per_s, order, (used_after - used) / (passed_after - passed), failures)


def _machine() -> Times:
    with Path("/proc/stat").open() as file:
        ticks = [int(part) for part in file.readline().split()[1:]]
    idle = ticks[3] + ticks[4]
    return float(sum(ticks) - idle), float(sum(ticks))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Read the command line, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.2, help="of a core, for each process")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--most", type=int, default=3, choices=(1, 2, 3))
    chosen = parser.parse_args()
    steps = []
    for replicas in range(1, chosen.most + 1):
        with tempfile.TemporaryDirectory(
            prefix="tallygate-scale-", ignore_cleanup_errors=True
        ) as folder:
            state = Path(folder) / "state"
            try:
                step, how = asyncio.run(measure(replicas, chosen.share, chosen.seconds, state))
            except (StackError, DriverFailed) as problem:
                sys.exit(str(problem))
        _tell(
            f"{replicas} of each, held to {chosen.share:g} of a core by {how}: {step.per_s:.0f}/s"
        )
        steps.append(step)
    print(f"each process held to {chosen.share:g} of a core by {how}; {os.cpu_count()} cores\n")
    print(render(steps))
    print(f"\ncores, filled to {FILLED:.0%}:\n\n{model(steps[0].cpu_ms)}")
    failures = sum(step.failures for step in steps)
    if failures:
        print(f"\n{failures} requests failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
