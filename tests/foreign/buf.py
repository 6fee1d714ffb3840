"""buf over the protobuf files: `python -m tests.foreign.buf [--against COMMIT]`: lint, and what would break older clients."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.foreign.packages import BUF, python_with

_ROOT = Path(__file__).parents[2]
_PROTO = "schemas/proto"
_WITHIN_S = 120.0


def _run(*command: str) -> bool:
    done = subprocess.run(
        command, cwd=_ROOT, timeout=_WITHIN_S, check=False, text=True, capture_output=True
    )
    print(f"$ {' '.join(['buf', *command[1:]])}: exit code {done.returncode}", flush=True)
    print(done.stdout + done.stderr, end="", flush=True)
    return done.returncode == 0


def _has_files(commit: str) -> bool:
    """Whether there is anything to compare with."""
    listed = ["git", "ls-tree", "-r", "--name-only", commit, _PROTO]
    told = subprocess.run(listed, cwd=_ROOT, check=False, capture_output=True, text=True)
    return ".proto" in told.stdout


def main() -> int:
    """1 when a rule is broken."""
    options = argparse.ArgumentParser()
    options.add_argument(
        "--against", default="main", help="the commit that older clients were made of"
    )
    commit = options.parse_args().against
    python = python_with(BUF)
    if python is None:
        return 0
    buf = str(python.with_name("buf"))
    is_sound = _run(buf, "lint", _PROTO)
    if not _has_files(commit):
        print(f"{commit} has no protobuf files: nothing can break")
        return 0 if is_sound else 1
    git = subprocess.run(
        ["git", "rev-parse", "--git-common-dir"],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    against = f"{git.stdout.strip()}#ref={commit},subdir={_PROTO}"
    return 0 if _run(buf, "breaking", _PROTO, "--against", against) and is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
