"""The command-line options that both load drivers share, and the frame of a measured run."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

from deploy.bench.connection import PreparedRequest
from deploy.bench.drivers import Run
from deploy.bench.process_cost import costs, parse_pids, read_processes
from deploy.bench.reference_work import reference_cpu_ms
from deploy.bench.report import Report, make_report, render_json, render_table
from deploy.bench.requests import prepare_mix

DRIVER = "load driver"
_REFERENCES = 20


async def measure(
    name: str, drive: Callable[[], Awaitable[Run]], pids: Mapping[str, int]
) -> Report:
    """Drive once, and read the processes' costs (the driver's own too) around it."""
    watched = {**pids, DRIVER: os.getpid()}
    reference_ms = [reference_cpu_ms() for _ in range(_REFERENCES)]
    before, started_s = read_processes(watched), time.perf_counter()
    run = await drive()
    duration_s = time.perf_counter() - started_s
    found = costs(before, read_processes(watched), len(run.samples), duration_s)
    reference_ms += [reference_cpu_ms() for _ in range(_REFERENCES)]
    return make_report(
        name, run.samples, duration_s, found, run.send_delays_s, median(reference_ms)
    )


def parser(description: str) -> argparse.ArgumentParser:
    """The shared options; a driver adds its own."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--url", required=True, help="what OPENAI_BASE_URL would be")
    options.add_argument("--key", required=True)
    options.add_argument("--model", default="echo-1")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--stream-share", type=float, default=0.0, help="0 to 1")
    options.add_argument("--pids", type=parse_pids, default={}, help="name=pid,name=pid")
    options.add_argument("--json", action="store_true")
    return options


def requests_of(options: argparse.Namespace) -> tuple[PreparedRequest, ...]:
    """The prepared requests that the options ask for."""
    return prepare_mix(options.url, options.key, options.model, options.stream_share)


def show(report: Report, *, as_json: bool) -> None:
    """Print one run's report."""
    print(render_json([report]) if as_json else render_table([report]))
