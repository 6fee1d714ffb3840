"""`python -m deploy.bench.drive`: drives one load, told on stdin, and writes what came of it to stdout.

A process of its own, on uvloop: the one that started the stack supervises it and cannot be, and a driver's own
pauses would stand in every latency.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import monotonic, perf_counter
from typing import Final

import msgspec
import uvloop

from deploy.bench.connection import PreparedRequest
from deploy.bench.drivers import Run, run_closed, run_open
from deploy.bench.load import Driven, Load, after_warm_up, requests_of
from deploy.bench.process_cost import Reading, costs, read_processes
from deploy.bench.reference_work import reference_cpu_ms
from schemas.runtime.process.clock import Clock

DRIVER: Final = "load driver"
_REFERENCES: Final = 20


@dataclass
class _Cut:
    """What the processes had used when the warm-up ended, and when that was."""

    pids: Mapping[str, int]
    clock: Clock = field(default_factory=Clock)
    before: dict[str, Reading] = field(default_factory=dict)
    at_s: float = 0.0
    at_ms: int = 0

    async def after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.before = read_processes(self.pids)
        self.at_s, self.at_ms = perf_counter(), self.clock.local_ms()


async def drive(load: Load) -> Driven:
    """Send it, and read what the processes cost around what counts."""
    requests = requests_of(load)
    cut = _Cut({**load.pids, DRIVER: os.getpid()})
    reference_ms = [reference_cpu_ms() for _ in range(_REFERENCES)]
    if load.start_at_s is not None:
        await asyncio.sleep(max(0.0, load.start_at_s - monotonic()))
    async with asyncio.TaskGroup() as group:
        group.create_task(cut.after(load.warm_up_s))
        running = group.create_task(_run(load, requests))
    run, duration_s = running.result(), perf_counter() - cut.at_s
    samples = after_warm_up(run.samples, load.warm_up_s)
    found = costs(cut.before, read_processes(cut.pids), len(samples), duration_s)
    reference_ms += [reference_cpu_ms() for _ in range(_REFERENCES)]
    return Driven(
        samples=samples,
        send_delays_s=list(run.send_delays_s)[-len(samples) :] if samples else [],
        duration_s=duration_s,
        costs=found,
        reference_cpu_ms=median(reference_ms),
        began_ms=cut.at_ms,
    )


async def _run(load: Load, requests: Sequence[PreparedRequest]) -> Run:
    if load.loop == "closed":
        return await run_closed(
            load.url, requests, load.connections, load.seconds, load.timeout_s, load.most_requests
        )
    return await run_open(
        load.url,
        requests,
        load.rate_per_s,
        load.seconds,
        kind=load.arrivals,
        seed=load.seed,
        timeout_s=load.timeout_s,
        most_connections=load.most_connections,
        has_headers=load.has_headers,
    )


def main() -> None:
    """Read, drive, write."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    driven = uvloop.run(drive(load))
    sys.stdout.buffer.write(msgspec.json.encode(driven))


if __name__ == "__main__":
    main()
