"""`make profile`: where each process spends its time at 64 connections, written to docs/profile.md.

Needs py-spy (`.venv/bin/pip install py-spy`, or `--py-spy FILE`) and the right to read the memory of own
processes. One process is sampled after the other, on the embedded stack under a closed loop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.bench.drivers import run_closed
from deploy.bench.requests import prepare_mix
from tests.load.bench import CLOSED_CONNECTIONS, WARM_UP_S, started
from tests.load.history import commit_here
from tests.load.stacks import Profile, read_stacks, render_profile
from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.fakes.running_backend import running_backend

_PAGE: Final = Path("docs/profile.md")
_PROCESSES: Final = ("ingress-0", "limiter_worker-0", "dispatcher-0", "accounting-0")
_RATE_PER_S: Final = 200
_RUN_IN_S: Final = 1.0
_START_WITHIN_S: Final = 60.0


async def profile_all(py_spy: str, seconds: int, folder: Path) -> tuple[dict[str, Profile], float]:
    """The profile of each process, and the requests per second that were answered meanwhile."""
    connections = max(CLOSED_CONNECTIONS)
    profiles, answered = {}, 0
    with running_backend("fake", folder / "calls.jsonl") as backend:
        async with started(folder / "profiled", backend, {}) as target:
            requests = prepare_mix(target.url, target.key, PLAIN_MODEL, 0.0)
            await run_closed(target.url, requests, connections, WARM_UP_S)
            drive_s = seconds + 2 * _RUN_IN_S
            for name in _PROCESSES:
                driving = asyncio.create_task(
                    run_closed(target.url, requests, connections, drive_s)
                )
                await asyncio.sleep(_RUN_IN_S)
                profiles[name] = await _record(py_spy, target.pids[name], seconds, folder / name)
                answered += len((await driving).samples)
    return profiles, answered / (drive_s * len(_PROCESSES))


async def _record(py_spy: str, pid: int, seconds: int, file: Path) -> Profile:
    options = {"--pid": pid, "--duration": seconds, "--rate": _RATE_PER_S, "--output": file}
    arguments = [str(part) for option in options.items() for part in option]
    recorder = await asyncio.create_subprocess_exec(
        py_spy, "record", "--gil", "--threads", "--format", "raw", *arguments, stdout=sys.stderr
    )
    async with asyncio.timeout(seconds + _START_WITHIN_S):
        if await recorder.wait():
            raise SystemExit(f"{py_spy} cannot sample process {pid}: it needs the right to do so")
    return _read(file)


def _read(file: Path) -> Profile:
    return read_stacks(file.read_text().splitlines())


def render_page(profiles: Mapping[str, Profile], per_s: float, seconds: int) -> str:
    """The page: how it was made, and a table for each process."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"""\
# Profile at saturation

Made by `make profile`; do not edit. Where each process spends its time while {max(CLOSED_CONNECTIONS)} connections of a closed loop
keep the embedded stack busy: py-spy, {_RATE_PER_S} samples a second for {seconds} s, one process after the other. Commit {commit_here()}, {today},
{os.cpu_count()} cores of {platform.system()} shared by everything, {per_s:.0f} requests/s while sampled.

Only threads that hold the interpreter count. Native code (uvloop, fastavro, system calls) counts for the Python function that called
it; `Runner.run` is uvloop itself. The first two columns are shares of the whole, the third has callers and callees.
"""
    tables = [render_profile(name.rpartition("-")[0], each) for name, each in profiles.items()]
    return "\n\n".join([head.rstrip(), *tables]) + "\n"


def main() -> None:
    """Read the command line, sample, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--py-spy", default="py-spy", help="the program")
    parser.add_argument("--seconds", type=int, default=15, help="for each process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tallygate-profile-") as folder:
        profiles, per_s = asyncio.run(profile_all(options.py_spy, options.seconds, Path(folder)))
    _PAGE.write_text(render_page(profiles, per_s, options.seconds))


if __name__ == "__main__":
    main()
