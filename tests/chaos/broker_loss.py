"""Three brokers, each killed once under load: what clients saw, and that nothing is lost.

`python -m tests.chaos.broker_loss`: `tallygate up --brokers 3`, kill -9 of one broker after another, by pid; its
supervisor starts it again. Clients do not try again. The oracle is the backends' log, beside the log of usage: what was
accepted has ended and is billed once. Exit code 1 when something is lost or miscounted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from deploy.embedded.brokers import broker_name
from deploy.embedded.probes import is_kafka_ready
from tests.chaos.changes import Changes, Seen, render, under_load
from tests.chaos.rig import Rig, running_rig

BROKERS: Final = 3
RATE_PER_S: Final = 20.0
"""Two cores carry three brokers beside everything else, and both load and clients are on them."""
_WARM_UP_S: Final = 20.0
_SETTLES_S: Final = 10.0
_BACK_WITHIN_S: Final = 60.0
_WITHIN_S: Final = 900.0


def broker_pid(rig: Rig, name: str) -> int:
    """The process of a broker, told by the settings that it was given."""
    settings = f"/{name}/server.properties".encode()
    for pid in rig.pids_of("kafka"):
        if settings in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError(f"{name} does not run")


async def kill_and_wait(rig: Rig, name: str) -> None:
    """Kill -9; returns once its successor answers."""
    os.kill(broker_pid(rig, name), signal.SIGKILL)
    port, give_up_s = rig.port_of(name), time.monotonic() + _BACK_WITHIN_S
    while not await is_kafka_ready(port, f"127.0.0.1:{port}"):
        assert time.monotonic() < give_up_s, f"{name} did not come back"
        await asyncio.sleep(0.5)


async def lose_each(rig: Rig, rate_per_s: float) -> Seen:
    """The whole run."""
    changes = Changes(_SETTLES_S, _WARM_UP_S)

    async def do() -> None:
        for name in map(broker_name, range(BROKERS)):
            await changes.during(name, "killed", kill_and_wait(rig, name))

    return await under_load(rig, rig.stack.api_url, rate_per_s, changes, do)


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=float, default=RATE_PER_S, help="requests per second")
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-brokers-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs under {folder}", flush=True)
    with running_rig(folder, options=("--brokers", str(BROKERS))) as rig:
        seen = asyncio.run(asyncio.wait_for(lose_each(rig, chosen.rate), _WITHIN_S))
    text = render(seen)
    (folder / "report.txt").write_text(f"{text}\n{seen.findings}\n")
    verdict = "CLEAN" if seen.has_books else "FINDINGS"
    print(f"{text}\nbroker loss: {verdict}, {len(seen.findings.lost)} lost", flush=True)
    return 0 if seen.has_books else 1


if __name__ == "__main__":
    sys.exit(main())
