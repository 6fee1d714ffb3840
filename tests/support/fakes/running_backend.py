"""Starts the fake backend as a process of its own and ends it by its pid.

Invariant: the process is gone when the `with` block is left.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.running_backend import end_process
from tests.support.fakes.call_log import Call, read_calls

STOP_DEADLINE_S = 5.0
REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class RunningBackend:
    """A fake backend that answers. `url` is what OPENAI_BASE_URL would be."""

    name: str
    url: str
    pid: int
    log: Path

    def calls(self) -> tuple[Call, ...]:
        """Every call so far, from the backend's own log."""
        return read_calls(self.log)


@contextmanager
def running_backend(
    name: str,
    log: Path,
    *,
    port: int = 0,
    latency_ms: int = 0,
    module: str = "tests.support.fakes.backend",
) -> Iterator[RunningBackend]:
    """A fake backend on a free port (or the one given); ready when this yields."""
    options = ["--port", str(port), "--log", str(log.absolute()), "--name", name]
    process = subprocess.Popen(
        [sys.executable, "-m", module, *options, "--latency-ms", str(latency_ms)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"the fake backend {name} ended with code {process.wait()}")
        yield RunningBackend(name, url, process.pid, log)
    finally:
        process.stdout.close()
        end_process(process, STOP_DEADLINE_S)


StartBackend = Callable[[str], RunningBackend]
