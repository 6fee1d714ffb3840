"""`make bench`: the embedded stack under load, on this machine, in about two minutes.

`python -m tests.load.bench [--json]` starts everything on free ports with a state folder of its
own and the fake backend behind it, warms up, and measures closed loops and an open loop. Driver,
broker, stores, processes and backend share the machine; the numbers are of all of them together.
A second stack, which counts, then tells what a request costs in wake-ups, tasks, futures, timers, store
commands, produce requests and bytes: those do not move with the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from deploy.bench.counts import Counts, per_request, read_counts, render_counts
from deploy.bench.drivers import run_closed, run_open
from deploy.bench.report import Report, render_json, render_table
from deploy.bench.requests import prepare_mix
from deploy.embedded import seed
from deploy.embedded.ports import HOST
from deploy.embedded.process import Progress
from deploy.embedded.roles import ROLES
from deploy.embedded.stack import Stack
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders
from tests.load.history import commit_here, history_line, render_relative
from tests.load.options import measure
from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.fakes.running_backend import RunningBackend, running_backend

ORG = "bench"
UNLIMITED = {"requests_per_s": 100_000, "burst": 100_000}
ADMIN_DEADLINE_S = 30.0
WARM_UP_S = 5.0
CLOSED_CONNECTIONS = (1, 8, 64)
CLOSED_S = 12.0
OPEN_RATE_PER_S = 50.0
OPEN_S = 20.0
COUNT_S = 10.0
COUNTING = {"TALLYGATE_COUNT_LOOP": "1"}


@dataclass(frozen=True)
class Target:
    """A stack that is ready to be measured."""

    url: str
    key: str
    pids: Mapping[str, int]
    pages: Mapping[str, str]
    """The metrics page of each process."""


async def bench(folder: Path, stream_share: float) -> list[Report]:
    """Start, warm up, measure, stop."""
    with running_backend("fake", folder / "calls.jsonl") as backend:
        async with started(folder / "timed", backend, {}) as target:
            return await _measure_all(target, stream_share)


async def count(folder: Path, stream_share: float) -> dict[str, dict[str, Counts]]:
    """The same load on a stack that counts: by run and process, per request."""
    with running_backend("fake", folder / "counted.jsonl") as backend:
        async with started(folder / "counted", backend, COUNTING) as target:
            return await _count_all(target, stream_share)


async def _count_all(target: Target, stream_share: float) -> dict[str, dict[str, Counts]]:
    url, requests = target.url, prepare_mix(target.url, target.key, PLAIN_MODEL, stream_share)
    most = max(CLOSED_CONNECTIONS)
    drives = {
        f"closed {most}": partial(run_closed, url, requests, most, COUNT_S),
        f"open {OPEN_RATE_PER_S:g}/s": partial(run_open, url, requests, OPEN_RATE_PER_S, COUNT_S),
    }
    await run_closed(url, requests, most, WARM_UP_S)
    counted = {}
    for name, drive in drives.items():
        _tell(f"counting, {name}, {COUNT_S:g} s")
        before = await read_counts(target.pages)
        run = await drive()
        counted[name] = per_request(before, await read_counts(target.pages), len(run.samples))
    return counted


async def _measure_all(target: Target, stream_share: float) -> list[Report]:
    url, requests = target.url, prepare_mix(target.url, target.key, PLAIN_MODEL, stream_share)
    await run_closed(url, requests, max(CLOSED_CONNECTIONS), WARM_UP_S)
    reports = []
    for connections in CLOSED_CONNECTIONS:
        _tell(f"closed loop, {connections} connections, {CLOSED_S:g} s")
        closed = partial(run_closed, url, requests, connections, CLOSED_S)
        reports.append(await measure(f"closed {connections}", closed, target.pids))
    _tell(f"open loop, {OPEN_RATE_PER_S:g} requests/s, {OPEN_S:g} s")
    at_rate = partial(run_open, url, requests, OPEN_RATE_PER_S, OPEN_S)
    reports.append(await measure(f"open {OPEN_RATE_PER_S:g}/s", at_rate, target.pids))
    return reports


@asynccontextmanager
async def started(
    folder: Path, backend: RunningBackend, environment: Mapping[str, str]
) -> AsyncIterator[Target]:
    options = StackOptions(
        state_dir=folder,
        cache_dir=UserFolders().cache,
        environment={**os.environ, **environment},
        has_example_backends=False,
        has_random_ports=True,
    )
    stack = Stack(options, report=_tell_progress)
    try:
        await stack.start()
        async with httpx.AsyncClient(
            base_url=stack.admin_url, timeout=ADMIN_DEADLINE_S, trust_env=False
        ) as admin:
            key = await _fill(admin, backend)
        pids = {name: process.pid for name, process in stack.processes.items() if process.pid}
        pages = {
            name: f"http://{HOST}:{port}/metrics"
            for name, port in stack.ports.items()
            if name.rpartition("-")[0] in ROLES
        }
        yield Target(stack.api_url, key, {**pids, "fake backend": backend.pid}, pages)
    finally:
        await stack.stop()


async def _fill(admin: httpx.AsyncClient, backend: RunningBackend) -> str:
    """Set up a priced model, an org that no limit stops, and its key."""
    model = {"backends": [{"backend": backend.name, "weight": 1}], **seed.EXAMPLE_PRICES}
    await seed.put(admin, seed.Entity("backends", backend.name, {"url": backend.url}))
    await seed.put(admin, seed.Entity("models", PLAIN_MODEL, model))
    await seed.put(admin, seed.Entity("orgs", ORG, {"limits": UNLIMITED}))
    answer = await admin.post("/keys", json={"org": ORG, "name": "bench", "limits": UNLIMITED})
    return str(answer.raise_for_status().json()["key"])


def _tell_progress(progress: Progress) -> None:
    _tell(f"{'ready' if progress.is_ok else 'PROBLEM'}: {progress.name} {progress.text}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line, run, print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream-share", type=float, default=0.0, help="0 to 1")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as folder:
        # Not on uvloop, which cannot start children in process groups as the stack does.
        reports = asyncio.run(bench(Path(folder), options.stream_share))
        counted = asyncio.run(count(Path(folder), options.stream_share))
    if options.json:
        print(render_json(reports, counted))
    else:
        print(f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, one machine")
        print(render_table(reports))
        print(render_relative(reports))
        print(render_counts(counted))
        today = time.strftime("%Y-%m-%d", time.gmtime())
        line = history_line(reports, commit_here(), today, f"{os.cpu_count()} cores")
        print(f"for docs/bench-history.md:\n{line}")


if __name__ == "__main__":
    main()
