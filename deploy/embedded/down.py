"""Ends the embedded stack that this user runs: ``make down``.

Invariant: only the process that holds the lock of the state folder is signalled, so a pid that was
given to somebody else in the meantime never is.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

from deploy.embedded.problem import StackError
from deploy.embedded.state import UserFolders
from deploy.terminal import say

DEADLINE_S = 60.0
_LOOK_S = 0.1


def end_stack(current: Path, deadline_s: float = DEADLINE_S) -> bool:
    """Send SIGTERM to the stack that the address file names and wait for its end; False when none runs.

    Raises StackError when it still runs after the deadline.
    """
    folder = _state_folder(current)
    if folder is None:
        return False
    with (folder / "lock").open(encoding="utf-8") as lock:
        if _is_free(lock):
            return False
        pid = int(lock.read())
        os.kill(pid, signal.SIGTERM)
        ends_at_s = time.monotonic() + deadline_s
        while not _is_free(lock):
            if time.monotonic() > ends_at_s:
                raise StackError(
                    f"the stack (pid {pid}) still runs",
                    f"it was told to end {deadline_s:g} s ago",
                    f"read {folder / 'logs'}; a second SIGTERM kills all its processes",
                )
            time.sleep(_LOOK_S)
    return True


def _state_folder(current: Path) -> Path | None:
    try:
        folder = Path(json.loads(current.read_text(encoding="utf-8"))["state_dir"])
    except (OSError, ValueError, KeyError):
        return None
    return folder if (folder / "lock").exists() else None


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def main() -> int:
    """The exit code: 0 when nothing runs any more."""
    try:
        was_running = end_stack(UserFolders().current)
    except StackError as problem:
        say(str(problem), sys.stderr)
        return 1
    say("stopped" if was_running else "nothing was running", sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
