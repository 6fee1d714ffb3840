"""The long form: every role is killed several times in random order, under load.

`python -m tests.chaos.torture --rounds 5 --seed 1`; exit code 1 when anything was lost or doubled.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.rig import ROLES, running_rig
from tests.chaos.run import render, run


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5, help="kills of every role")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds-each", type=float, default=12.0, help="from kill to kill")
    options.add_argument("--roles", default=",".join(ROLES), help="comma-separated")
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    chosen = options.parse_args()
    roles = chosen.roles.split(",") * chosen.rounds
    random.Random(chosen.seed).shuffle(roles)
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {chosen.seed}, logs under {folder / 'state' / 'logs'}", flush=True)
    with running_rig(folder) as rig:
        report = run(rig, roles, chosen.seconds_each, chosen.seed)
    print(render(report))
    return 0 if report.findings.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
