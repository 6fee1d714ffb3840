"""Memory of each process while 100 000 requests go through."""

from __future__ import annotations

import asyncio

from deploy.bench.bench import Bench, Unmeasurable
from deploy.bench.figures import Chart, Figure, Result
from deploy.bench.process_cost import read_processes
from deploy.embedded.roles import ROLES

_REQUESTS = 100_000
_LONGEST_S = 600.0
_LOOK_S = 1.0
_BYTES = 1_000_000


async def run(bench: Bench) -> Result:
    """A closed loop to its end; what each of our processes holds is read every second."""
    own = {name: pid for name, pid in bench.target.pids.items() if name.rpartition("-")[0] in ROLES}
    if not own:
        raise Unmeasurable("memory is read of processes: give --pids")
    requests = bench.number(_REQUESTS)
    load = bench.load(loop="closed", seconds=_LONGEST_S, most_requests=requests)
    seen: list[dict[str, int]] = []
    looking = asyncio.create_task(_look(own, seen))
    try:
        found = await bench.drive("memory", load)
    finally:
        looking.cancel()
        await asyncio.wait([looking])
    seen.append(_held(own))
    last, middle = seen[-1], seen[len(seen) // 2]
    largest = max(last, key=lambda name: last[name])
    growth = max(last[name] / middle[name] - 1 for name in last if name in middle)
    done = len(found.samples)
    curve = [
        (number * done / (len(seen) - 1), each.get(largest, 0) / _BYTES)
        for number, each in enumerate(seen)
    ]
    notes = [
        f"{name}: {seen[0].get(name, 0) / _BYTES:.0f} MB at the start, {middle.get(name, 0) / _BYTES:.0f} MB"
        f" half-way, {last[name] / _BYTES:.0f} MB after {done} requests"
        for name in last
    ]
    figures = [
        Figure("memory.most", last[largest] / _BYTES),
        Figure("memory.growth", growth * 100),
    ]
    charts = [Chart(f"memory of {largest}", "requests (about)", "MB", curve)]
    failed = bool(found.report.errors)
    return Result("memory", figures, [found.report], charts, notes, has_failed=failed)


async def _look(pids: dict[str, int], seen: list[dict[str, int]]) -> None:
    while True:
        seen.append(_held(pids))
        await asyncio.sleep(_LOOK_S)


def _held(pids: dict[str, int]) -> dict[str, int]:
    return {name: reading.rss_bytes for name, reading in read_processes(pids).items()}
