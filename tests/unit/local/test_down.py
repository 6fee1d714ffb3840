"""`make down` ends the stack that runs, and nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.embedded.down import end_stack
from deploy.embedded.problem import StackError

_HOLDER = """
import fcntl, os, signal, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(str(os.getpid()))
lock.flush()
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def _holder(state: Path, kind: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that owns the state folder as a running stack does."""
    command = [sys.executable, "-c", _HOLDER, str(state / "lock"), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """The address file of a stack whose state lies beside it."""
    file = tmp_path / "current.json"
    file.write_text(json.dumps({"pid": 1, "state_dir": str(tmp_path)}))
    return file


def test_the_owner_of_the_state_folder_is_ended(current: Path) -> None:
    """It gets SIGTERM, and the command returns once the folder is free."""
    with _holder(current.parent) as stack:
        assert end_stack(current, deadline_s=10)
        assert stack.wait(10) != 0


def test_a_stale_address_file_ends_nobody(current: Path) -> None:
    """After a kill -9 the file stays, and the pid in it may be anybody's."""
    (current.parent / "lock").write_text("1")

    assert not end_stack(current)


def test_without_an_address_file_nothing_runs(tmp_path: Path) -> None:
    """So there is nothing to end."""
    assert not end_stack(tmp_path / "current.json")


def test_a_stack_that_does_not_end_is_named(current: Path) -> None:
    """Nobody is told that it has stopped."""
    with _holder(current.parent, "deaf"), pytest.raises(StackError, match="still runs"):
        end_stack(current, deadline_s=0.3)
