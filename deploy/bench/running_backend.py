"""Starts the bench's backend as a process of its own and ends it by its pid.

Invariant: the process is gone when the `with` block is left.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

_STOPS_WITHIN_S: Final = 5.0
NAME: Final = "fake backend"


@dataclass(frozen=True)
class BenchBackend:
    """A backend that answers: what OPENAI_BASE_URL would be, for each of its ports."""

    urls: tuple[str, ...]
    pid: int

    @property
    def url(self) -> str:
        """Its first address."""
        return self.urls[0]


def end_process(process: subprocess.Popen[Any], within_s: float) -> None:
    """The process is told to end, killed when it does not within so many seconds, and gone when this returns."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def bench_backend(ports: int = 1) -> Iterator[BenchBackend]:
    """The backend, ready. Raises ``RuntimeError`` when it does not start."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.bench.backend", "--ports", str(ports)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the backend ended with code {process.wait()}")
        yield BenchBackend(tuple(json.loads(line)), process.pid)
    finally:
        process.stdout.close()
        end_process(process, _STOPS_WITHIN_S)
