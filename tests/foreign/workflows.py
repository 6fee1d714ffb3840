"""`make workflows`: the workflows of CI, judged by actionlint. Exit code 1 when it says anything or cannot be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.foreign.packages import ACTIONLINT, go_program

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Every workflow."""
    actionlint = go_program(ACTIONLINT)
    if actionlint is None:
        return 1
    files = sorted(str(file) for file in (ROOT / ".github" / "workflows").glob("*.yml"))
    done = subprocess.run([str(actionlint), "-no-color", *files], timeout=60, check=False)
    told = "nothing to say about" if done.returncode == 0 else "PROBLEM:"
    print(f"actionlint: {told} {', '.join(Path(file).name for file in files)}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
