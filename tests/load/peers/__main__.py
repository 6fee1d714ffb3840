"""`make peers`: Tallygate beside other gateways, by one driver before one backend, in interleaved rounds.

`python -m tests.load.peers [--dir DIR] [--rounds 2] [--scale 1] [--only NAME ...]`. Environments of the others are made
once in DIR (or TALLYGATE_PEERS_DIR), outside of this repository. Rows that Tallygate loses are printed like all others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from deploy.bench.running_backend import bench_backend
from deploy.embedded.problem import StackError
from tests.load.peers.environments import NotToBeHad
from tests.load.peers.gateways import GATEWAYS, Gateway, running
from tests.load.peers.rounds import Figures, Round
from tests.load.peers.tables import render

USD_A_CORE_HOUR = 0.04


async def compare(
    cache: Path, scratch: Path, gateways: list[Gateway], rounds: int, scale: float
) -> tuple[dict[Gateway, list[Figures]], dict[Gateway, str]]:
    """Every gateway in every round, the order turned round in each second; and who could not be had."""
    found: dict[Gateway, list[Figures]] = {gateway: [] for gateway in gateways}
    missing: dict[Gateway, str] = {}
    for number in range(rounds):
        for gateway in gateways if number % 2 == 0 else gateways[::-1]:
            if gateway in missing:
                continue
            _tell(f"round {number + 1}: {gateway.name}")
            with bench_backend() as backend:
                try:
                    place = scratch / f"{gateway.name.replace(' ', '-')}-{number}"
                    async with running(gateway, cache, place, backend, _tell) as ready:
                        found[gateway].append(await Round(ready, scale).figures(_tell))
                except (NotToBeHad, StackError) as problem:
                    missing[gateway] = str(problem)
                    _tell(f"  not measured: {problem}")
    return found, missing


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = os.environ.get("TALLYGATE_PEERS_DIR") or Path.home() / ".cache" / "tallygate-peers"
    parser.add_argument("--dir", type=Path, default=Path(usual), help="environments of the others")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="how long, times what is usual")
    parser.add_argument("--only", nargs="*", default=[], choices=[each.name for each in GATEWAYS])
    parser.add_argument("--usd-a-core-hour", type=float, default=USD_A_CORE_HOUR)
    parser.add_argument("--json", action="store_true", help="every round, for programs")
    chosen = parser.parse_args()
    gateways = [each for each in GATEWAYS if not chosen.only or each.name in chosen.only]
    with tempfile.TemporaryDirectory(
        prefix="tallygate-peers-", ignore_cleanup_errors=True
    ) as folder:
        found, missing = asyncio.run(
            compare(chosen.dir.absolute(), Path(folder), gateways, chosen.rounds, chosen.scale)
        )
    if chosen.json:
        print(json.dumps({gateway.name: rounds for gateway, rounds in found.items()}))
    print(render(found, missing, chosen.usd_a_core_hour))


if __name__ == "__main__":
    main()
