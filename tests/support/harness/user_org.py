"""Runs the user-org service of tests as a process of its own.

Invariant: the process is gone when the `with` block is left.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bench.running_backend import end_process
from tests.support.fakes.running_backend import REPOSITORY

_STOP_S = 5.0


@dataclass(frozen=True)
class RunningService:
    """A service that answers."""

    url: str
    process: subprocess.Popen[str]
    callers: Path
    log: Path

    def asked(self) -> list[str]:
        """Whom it was asked about, in order."""
        return [json.loads(line)["asked"] for line in self.log.read_text().splitlines()]

    def pause(self) -> None:
        """From now on it hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def set(self, **known: Any) -> None:
        """What it knows from now on."""
        beside = self.callers.with_suffix(".new")
        beside.write_text(json.dumps(known))
        beside.replace(self.callers)


@contextmanager
def running_user_org(folder: Path, port: int = 0, **known: Any) -> Iterator[RunningService]:
    """A service that knows these callers; ready when this yields."""
    callers, log = folder / "callers.json", folder / "asked.jsonl"
    callers.write_text(json.dumps(known))
    log.touch()
    command = [sys.executable, "-m", "tests.support.fakes.user_org_service"]
    command += ["--callers", str(callers), "--log", str(log), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"the user-org service ended with code {process.wait()}")
        yield RunningService(url, process, callers, log)
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
        end_process(process, _STOP_S)
