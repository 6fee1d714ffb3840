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
from pathlib import Path

from tests.load.scenarios import (
    bodies,
    capacity,
    fullness,
    health,
    hostile,
    look_ups,
    neighbours,
    sockets,
    stops,
)
from tests.support.harness.scene import DISPATCHERS, Scene, running_scene

REPLICAS = {"ingress": 2, "limiter_worker": 2, "dispatcher": DISPATCHERS, "accounting": 2}
Run = Callable[[Scene], Awaitable[list[str]]]


SCENARIOS: Mapping[str, Run] = {
    "very-long-call": neighbours.very_long_call,
    "long-call": neighbours.long_call,
    "hanging-backend": neighbours.hanging_backend,
    "loud-neighbour": neighbours.loud_neighbour,
    "look-ups": look_ups.look_ups,
    "hostile-answers": hostile.hostile_answers,
    "capacity": capacity.beyond_capacity,
    "stops": stops.stop_each,
    "budget-raised": fullness.budget_raised,
    "large-bodies": bodies.large_bodies,
    "refused-bodies": bodies.refused_bodies,
    "jobs": bodies.many_jobs,
    "sockets": sockets.hostile_sockets,
    "health": health.each_in_turn,
    "ledger-full": fullness.full_ledger,
}


async def play(names: list[str]) -> int:
    """Run the scenarios on one stack; the number of those that could not be measured."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tallygate-isolation-") as folder:
        async with running_scene(Path(folder), REPLICAS) as scene:
            for name in names:
                print(f"\n## {name}", flush=True)
                try:
                    for line in await SCENARIOS[name](scene):
                        print(line, flush=True)
                except Exception:  # noqa: BLE001  # one scenario's failure must not hide the others
                    failed += 1
                    traceback.print_exc(file=sys.stdout)
            for line in await asyncio.gather(*scene.later):
                print(line, flush=True)
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
