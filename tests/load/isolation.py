"""`make isolation`: what a loud, long, hostile or broken neighbour does to everybody else.

`python -m tests.load.isolation [SCENARIO ...]` starts a stack with two dispatchers and two limiters, runs
the scenarios named (all of them by default) one after the other, and prints what was measured.
Bounded in time; nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.load.scenarios import bodies, capacity, fullness, health, neighbours, sockets, stops
from tests.load.scene import DISPATCHERS, Scene, running_scene

REPLICAS = {"ingress": 2, "limiter_worker": 2, "dispatcher": DISPATCHERS, "accounting": 2}
Run = Callable[[Scene], Awaitable[list[str]]]


@dataclass(frozen=True)
class Scenario:
    """One scenario, and the settings its stack needs beside the usual ones."""

    run: Run
    environment: Mapping[str, str]


SCENARIOS: Mapping[str, Scenario] = {
    "long-call": Scenario(neighbours.long_call, {}),
    "very-long-call": Scenario(neighbours.very_long_call, {}),
    "hanging-backend": Scenario(neighbours.hanging_backend, {}),
    "loud-neighbour": Scenario(neighbours.loud_neighbour, {}),
    "capacity": Scenario(capacity.beyond_capacity, {}),
    "stops": Scenario(stops.stop_each, {}),
    "budget-raised": Scenario(fullness.budget_raised, {}),
    "large-bodies": Scenario(bodies.large_bodies, {}),
    "refused-bodies": Scenario(bodies.refused_bodies, {}),
    "jobs": Scenario(bodies.many_jobs, {}),
    "sockets": Scenario(sockets.hostile_sockets, {}),
    "health": Scenario(health.each_in_turn, {}),
    "ledger-full": Scenario(fullness.full_ledger, {}),
}


async def play(names: list[str]) -> int:
    """Run the scenarios on one stack; the number of those that could not be measured."""
    failed = 0
    environment = {k: v for name in names for k, v in SCENARIOS[name].environment.items()}
    with tempfile.TemporaryDirectory(prefix="tallygate-isolation-") as folder:
        async with running_scene(Path(folder), REPLICAS, environment) as scene:
            for name in names:
                print(f"\n## {name}", flush=True)
                try:
                    for line in await SCENARIOS[name].run(scene):
                        print(line, flush=True)
                except Exception:  # noqa: BLE001  # one scenario's failure must not hide the others
                    failed += 1
                    traceback.print_exc(file=sys.stdout)
    return failed


def main() -> int:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    chosen = parser.parse_args().scenarios or list(SCENARIOS)
    unknown = sorted(set(chosen) - set(SCENARIOS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; one of {', '.join(SCENARIOS)}")
    return 1 if asyncio.run(play(chosen)) else 0


if __name__ == "__main__":
    sys.exit(main())
