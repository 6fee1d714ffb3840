"""Runs `tallygate up --headless` as users do, and ends it by its pid.

Invariant: when the `with` block is left, the command and everything it started are gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bench.running_backend import end_process
from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.wanted_ledger import USERS, wanted_ledger
from tests.support.harness.watched_answers import watch

TALLYGATE = Path(sys.executable).with_name("tallygate")
REPOSITORY = Path(__file__).parents[3]
START_DEADLINE_S = 180.0
STOP_DEADLINE_S = 60.0


@dataclass(frozen=True)
class RunningStack:
    """A stack that is ready. `api_url` is what OPENAI_BASE_URL would be."""

    api_url: str
    admin_url: str
    kafka: str
    first_key: str
    ledger_url: str
    bus_url: str
    process: subprocess.Popen[str]
    state_dir: Path
    grpc: str = ""
    """Host and port of the same API over gRPC; empty of a version that has none."""
    api_urls: tuple[str, ...] = ()
    """Of each ingress, where the commit that runs tells them."""

    def stop(self) -> int:
        """SIGTERM, as a service manager would; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_DEADLINE_S)


@contextmanager
def running_stack(
    state_dir: Path,
    backends: Sequence[RunningBackend] = (),
    replicas: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    checkout: Path = REPOSITORY,
    program: Sequence[str] = (),
) -> Iterator[RunningStack]:
    """A stack on free ports; without `backends` it brings its own examples.

    `replicas` is by role; one of each when not given. `environment` comes on top of ours, `options` are further
    ones of the command. `checkout` is where the code stands that runs, `program` another one that takes the same
    words. Raises RuntimeError with the end of its story when it does not become ready.
    """
    story = state_dir.with_suffix(".log")
    # The address file of a stack that the developer runs must stay as it is.
    own = {**os.environ, "XDG_STATE_HOME": str(state_dir.parent), **(environment or {})}
    tallygate = TALLYGATE if checkout == REPOSITORY else checkout / ".venv/bin/tallygate"
    command = [*(program or [str(tallygate)]), "up", "--headless", "--port", "0"]
    command += ["--admin-port", "0", "--state-dir", str(state_dir), *options]
    if ledger := wanted_ledger(own):
        command += ["--ledger-primaries", str(ledger.primaries)]
        command += ["--ledger-replicas", str(ledger.replicas)]
    if replicas:
        numbers = ",".join(f"{role}={number}" for role, number in replicas.items())
        command += ["--replicas", numbers]
        command += ["--store-users"] if USERS in own else []
    command += [
        part for backend in backends for part in ("--backend", f"{backend.name}={backend.url}")
    ]
    with story.open("a") as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=checkout,
            env=own,
        )
    try:
        facts = _first_line(process, story)
        watch(facts["api"], facts["admin"])
        yield RunningStack(
            facts["api"],
            facts["admin"],
            facts["kafka"],
            facts["key"],
            facts["ledger"],
            facts["bus"],
            process,
            state_dir,
            facts.get("grpc", ""),
            tuple(facts.get("apis", ())),
        )
    finally:
        _end(process)


def descendants(pid: int) -> set[int]:
    """The pids of all living descendants of a process (Linux)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    generation = {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        found |= generation
    return found


def lasting(pid: int) -> set[int]:
    """The descendants that live as long as their stack: all but the scans of the control plane, which come
    and go by the minute."""
    return {each for each in descendants(pid) if b"ingress.admin.scan" not in _command_line(each)}


def _command_line(pid: int) -> bytes:
    """Of a process that has gone nothing that lasts, so it counts as a scan."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b"ingress.admin.scan"


def is_alive(pid: int) -> bool:
    """True while a process with this pid exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _first_line(process: subprocess.Popen[str], story: Path) -> dict[str, Any]:
    assert process.stdout is not None
    is_readable = select.select([process.stdout], [], [], START_DEADLINE_S)[0]
    line = process.stdout.readline() if is_readable else ""
    if not line:
        raise RuntimeError(f"the stack did not start:\n{story.read_text()[-4_000:]}")
    facts: dict[str, Any] = json.loads(line)
    return facts


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()
    if process.poll() is None:
        end_process(process, STOP_DEADLINE_S)
