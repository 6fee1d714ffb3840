"""Every process is restarted, added and taken away under 50 requests/s, and no client notices.

`python -m tests.chaos.rolling`: two of each role, HAProxy in front of the ingresses, and what a user types:
`tallygate restart NAME`, `tallygate scale ROLE=N`. Exit code 1 when a request failed or the books are not right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.chaos.balancer import running_balancer
from tests.chaos.changes import RATE_PER_S, Changes, Seen, render, tallygate, under_load
from tests.chaos.rig import Rig, running_rig

ROLES: Final = ("accounting", "dispatcher", "limiter_worker", "batches", "ingress", "admin")
NOTICE: Final = {"TALLYGATE_NOTICE_S": "3"}
"""An ingress that leaves says so for longer than HAProxy needs to look twice."""
_SETTLES_S: Final = 3.0
_LONE_ADMIN: Final = ("admin=1", "admin=2")
"""There are two at most, so one goes first."""
_WITHIN_S: Final = 1_500.0


async def all_addresses(rig: Rig) -> list[str]:
    """The APIs of three ingresses, of which the third is gone again: a load balancer is told of it before it comes."""
    told = json.loads(await tallygate(rig.stack, "scale", "ingress=3", "--json"))
    await tallygate(rig.stack, "scale", "ingress=2")
    return list(told["apis"])


async def roll(rig: Rig, url: str, roles: Sequence[str], rate_per_s: float) -> Seen:
    """The whole run."""
    changes = Changes(_SETTLES_S)

    async def do() -> None:
        for role in roles:
            for name in (f"{role}-0", f"{role}-1"):
                await changes.during(name, "restarted", tallygate(rig.stack, "restart", name))
            more, fewer = (f"{role}=3", f"{role}=2") if role != "admin" else _LONE_ADMIN
            for numbers in (more, fewer):
                doing = tallygate(rig.stack, "scale", numbers)
                await changes.during(role, f"scaled, {numbers}", doing)

    return await under_load(rig, url, rate_per_s, changes, do)


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("roles", nargs="*", metavar="ROLE", help=", ".join(ROLES))
    options.add_argument("--rate", type=float, default=RATE_PER_S, help="requests per second")
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-rolling-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs under {folder}", flush=True)
    with running_rig(folder, replicas=dict.fromkeys(ROLES, 2), environment=NOTICE) as rig:
        addresses = asyncio.run(all_addresses(rig))
        with running_balancer(addresses, folder) as url:
            rolling = roll(rig, url, chosen.roles or ROLES, chosen.rate)
            seen = asyncio.run(asyncio.wait_for(rolling, _WITHIN_S))
    text = render(seen)
    (folder / "report.txt").write_text(f"{text}\n{seen.findings}\n")
    print(f"{text}\nrolling: {'CLEAN' if seen.is_clean else 'FINDINGS'}", flush=True)
    return 0 if seen.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
