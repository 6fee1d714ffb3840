"""Processes of an earlier commit beside those of this one, under load: an upgrade one process at a time, and the way back.

`python -m tests.chaos.mixed_versions --from COMMIT`: two of each role, all of the earlier commit; then each is restarted
as one of this commit, in the order of RELEASING.md, so that each role has an old one beside a new one; then the same in
reverse. HAProxy stands in front. Exit code 1 when a request failed or the books are not right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.balancer import running_balancer
from tests.chaos.changes import RATE_PER_S, Changes, Seen, render, tallygate, under_load
from tests.chaos.rig import Rig, running_rig
from tests.chaos.rolling import NOTICE
from tests.chaos.rolling import ROLES as ROLES_NOW
from tests.chaos.upgrade import checkout_of
from tests.support.harness.mixed_stack import CHECKOUTS
from tests.support.harness.running_stack import descendants

ROLES: Final = tuple(role for role in ROLES_NOW if role != "batches")
"""Earlier commits ran batches in ingress."""
_SETTLES_S: Final = 6.0
_WITHIN_S: Final = 1_500.0
_PROGRAM: Final = (sys.executable, "-m", "tests.support.harness.mixed_stack")


@dataclass
class Versions:
    """Which processes run the earlier commit."""

    file: Path
    commit: str
    old: Path
    names: set[str] = field(default_factory=lambda: {f"{r}-{n}" for r in ROLES for n in (0, 1)})

    def write(self) -> None:
        """Whoever starts from now on goes by it."""
        self.file.write_text(json.dumps(dict.fromkeys(sorted(self.names), str(self.old))))

    def move(self, name: str) -> str:
        """Give a process the other version; what that is called."""
        is_old = name in self.names
        self.names ^= {name}
        self.write()
        return f"{self.commit} to this" if is_old else f"this to {self.commit}"


async def upgrade_and_back(rig: Rig, url: str, versions: Versions, rate_per_s: float) -> Seen:
    """The whole run. Raises AssertionError where the processes are not those that are meant."""
    changes = Changes(_SETTLES_S)

    async def move(name: str) -> None:
        what = versions.move(name)
        await changes.during(name, what, tallygate(rig.stack, "restart", name))
        assert running_old(rig, versions.old) == len(versions.names), f"{name} is of another commit"

    async def do() -> None:
        assert running_old(rig, versions.old) == len(versions.names)
        for role in ROLES:
            for number in (0, 1):
                await move(f"{role}-{number}")
        for role in reversed(ROLES):
            for number in (0, 1):
                await move(f"{role}-{number}")

    return await under_load(rig, url, rate_per_s, changes, do)


def running_old(rig: Rig, old: Path) -> int:
    """How many of the stack's processes run the code of that checkout."""
    start = f"{old}/.venv/bin/python".encode() + b"\0-m\0"
    lines = [Path(f"/proc/{pid}/cmdline") for pid in descendants(rig.stack.process.pid)]
    found = [line.read_bytes() for line in lines if line.exists()]
    return sum(line.startswith(start) and b"scan" not in line for line in found)


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--from", dest="commit", required=True, help="the earlier commit")
    options.add_argument("--checkout", type=Path, help="where it is built already")
    options.add_argument("--rate", type=float, default=RATE_PER_S, help="requests per second")
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-mixed-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs under {folder}", flush=True)
    with ExitStack() as built:
        old = chosen.checkout or built.enter_context(checkout_of(chosen.commit, folder))
        versions = Versions(folder / "checkouts.json", chosen.commit, old.absolute())
        versions.write()
        environment = {**NOTICE, CHECKOUTS: str(versions.file)}
        numbers = dict.fromkeys(ROLES, 2)
        rigged = running_rig(folder, replicas=numbers, environment=environment, program=_PROGRAM)
        rig = built.enter_context(rigged)
        with running_balancer(rig.stack.api_urls, folder) as url:
            mixing = upgrade_and_back(rig, url, versions, chosen.rate)
            seen = asyncio.run(asyncio.wait_for(mixing, _WITHIN_S))
    text = render(seen)
    (folder / "report.txt").write_text(f"{text}\n{seen.findings}\n")
    print(f"{text}\nmixed versions: {'CLEAN' if seen.is_clean else 'FINDINGS'}", flush=True)
    return 0 if seen.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
