"""A state folder of an earlier commit goes on under this one, under load: what the log, the backends and the clients say.

`python -m tests.chaos.upgrade --from COMMIT --end stopped killed`: the commit is checked out and built beside this one, its
`tallygate up` serves organizations with tight budgets in every shard, and is ended, by SIGTERM or by kill -9 of all its
processes. This commit's `tallygate up` starts on the same folder and the same port while clients try again; load
goes on until budgets are spent. Everything is judged as after a lost ledger, and nothing of the old layout of keys
may be left. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from tests.chaos.ceilings import Tenant
from tests.chaos.ledger_loss import keep, tight
from tests.chaos.ledger_loss_run import (
    KINDS,
    Loads,
    Replay,
    Run,
    held_by,
    look_back,
    until_complete,
)
from tests.chaos.load import Load
from tests.chaos.loss_findings import LossFindings, judge
from tests.chaos.loss_report import report, summary, verdict_of
from tests.chaos.refusals import SPENT, Clock
from tests.chaos.rig import Rig, prepare
from tests.chaos.run import CONNECT_S
from tests.chaos.shard_watch import ShardWatch
from tests.chaos.stores import StoreServer, ledger_servers, orgs_of
from tests.support.fakes.running_backend import running_backend
from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.running_stack import (
    REPOSITORY,
    RunningStack,
    descendants,
    is_alive,
    running_stack,
)

SEED: Final = 11
REPLAYED: Final = 1_000
_OWN: Final = ("{cfg}|", "{dlq}|", "{d:")
"""How keys begin that belong to no shard."""
_FRAMES_LOST: Final = "502 result_lost"
_BUILT_WITHIN_S: Final = 600.0
_GONE_WITHIN_S: Final = 20.0
_WITHIN_S: Final = 540.0


@contextmanager
def checkout_of(commit: str, folder: Path) -> Iterator[Path]:
    """The commit with an environment of its own, until the block is left."""
    place = folder / f"commit-{commit}"
    _git("worktree", "add", "--quiet", "--detach", str(place), commit)
    try:
        subprocess.run(["make", "setup"], cwd=place, check=True, timeout=_BUILT_WITHIN_S)
        yield place
    finally:
        _git("worktree", "remove", "--force", str(place))


def _git(*words: str) -> None:
    subprocess.run(["git", *words], cwd=REPOSITORY, check=True, timeout=_BUILT_WITHIN_S)


@dataclass
class Upgrade:
    """One folder that two commits serve, one after the other."""

    folder: Path
    old: Path
    end: str
    loads: Loads
    running: ExitStack

    def __post_init__(self) -> None:
        """The port that clients know, whoever serves it."""
        self.state_dir = self.folder / "state"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        self.backends = tuple(
            self.running.enter_context(running_backend(name, self.folder / f"{name}.jsonl"))
            for name in ("fake-a", "fake-b")
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Whose dispatcher vanishes in a second attempt, of that one call has no line (decision 0075)."""
        return tuple(kind for kind in KINDS if self.end == "stopped" or kind != "failover")

    async def start(self, checkout: Path) -> RunningStack:
        """The stack of that code on the folder, once it is ready."""
        stack = running_stack(
            self.state_dir, self.backends, options=("--port", self.port), checkout=checkout
        )
        return await asyncio.to_thread(self.running.enter_context, stack)

    async def stop(self, stack: RunningStack) -> str:
        """End it; what was done."""
        if self.end == "stopped":
            return f"SIGTERM, exit code {await asyncio.to_thread(stack.stop)}"
        # The supervisor first, so that nobody starts a successor.
        pids = [stack.process.pid, *descendants(stack.process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        end_s = time.monotonic() + _GONE_WITHIN_S
        while any(map(is_alive, pids)) and time.monotonic() < end_s:  # noqa: ASYNC110  # none is a child
            await asyncio.sleep(0.1)
        return f"kill -9 of {len(pids)} processes"


async def upgrade(this: Upgrade, tenants: tuple[Tenant, ...], pause_s: float) -> Run:
    """The whole run."""
    before = await this.start(this.old)
    grants = await asyncio.to_thread(prepare, before, this.backends, tenants)
    clock = Clock(time.time() - time.monotonic())
    watch = ShardWatch(this.state_dir)
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        client = GatewayClient(session, before.api_url)
        load = Load(client, grants, this.loads.rate_per_s, random.Random(SEED), this.kinds)
        began_s = time.monotonic()
        running = asyncio.create_task(load.run())
        try:
            await asyncio.sleep(this.loads.before_s)
            lost_s = time.monotonic()
            told = [await this.stop(before)]
            gone_s = time.monotonic()
            await asyncio.sleep(pause_s)
            after = await this.start(REPOSITORY)
            told.append(f"ready {time.monotonic() - lost_s:.1f} s after the end of the old one")
            watching = asyncio.create_task(watch.run())
            await asyncio.sleep(this.loads.after_s)
        finally:
            stopped_s = time.monotonic()
            load.stop()
            await running
        await until_complete(watch, lost_s)
        watching.cancel()
        rig = Rig(after, this.backends, grants, this.state_dir, tenants)
        seen = await look_back(rig, client, load, replayed=REPLAYED)
        orgs = await asyncio.to_thread(orgs_of, ledger_servers(this.state_dir))
        left = await asyncio.to_thread(_left_of, ledger_servers(this.state_dir))
    seen["replays"] = tuple(_kept(seen["replays"], load, gone_s))
    return Run(
        **seen,
        clock=clock,
        rate_per_s=len(load.history) / (stopped_s - began_s),
        lost_s=lost_s,
        stopped_s=stopped_s,
        held=held_by(orgs),
        shards=watch.reopened(lost_s),
        told=tuple(told),
        wrong=(*left, *_unspent(load, lost_s)),
    )


def _kept(replays: Sequence[Replay], load: Load, gone_s: float) -> Iterator[Replay]:
    """All but those of streams that were told so: their frames were on the bus, which keeps nothing over a restart."""
    streams = {client.marker for client in load.history if client.kind == "stream"}
    for replay in replays:
        was_on_bus = replay.marker in streams and replay.first.ended_s < gone_s
        is_same = replay.again.request_id == replay.first.request_id
        if not (was_on_bus and is_same and replay.again.result == _FRAMES_LOST):
            yield replay


def _left_of(servers: Sequence[StoreServer]) -> list[str]:
    """Keys that belong neither to a shard nor to what all share."""
    left = []
    for server in servers:
        with server.open() as store:
            keys = [key.decode(errors="replace") for key in store.scan_iter(count=1_000)]
        left += [
            f"{key} is left of another layout"
            for key in keys
            if not key.startswith(_OWN) and not key.partition("}|")[0].removeprefix("{").isdigit()
        ]
    return left


def _unspent(load: Load, lost_s: float) -> Iterator[str]:
    """Where no budget came to its end after the upgrade, its exactness was not shown."""
    first: dict[str, float] = {}
    for client in load.history:
        for exchange in client.tries:
            if exchange.result == SPENT:
                first[client.org] = min(exchange.ended_s, first.get(client.org, exchange.ended_s))
    if not any(at_s > lost_s for at_s in first.values()):
        yield "no budget was spent after the upgrade"
    if not any(at_s < lost_s for at_s in first.values()):
        yield "no budget was spent before the upgrade"


def run_one(
    old: Path, end: str, folder: Path, loads: Loads, pause_s: float
) -> tuple[Run, LossFindings]:
    """One upgrade on a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        this = Upgrade(folder, old, end, loads, running)
        doing = upgrade(this, tight(loads, 0.0), pause_s)
        run = asyncio.run(asyncio.wait_for(doing, _WITHIN_S + pause_s))
        return run, judge(run)


def main() -> int:
    """Read the command line, upgrade, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--from", dest="commit", required=True, help="the earlier commit")
    options.add_argument("--checkout", type=Path, help="where it is built already")
    options.add_argument(
        "--end", choices=("stopped", "killed"), nargs="+", default=["stopped", "killed"]
    )
    options.add_argument("--rate", type=float, default=50.0, help="requests per second")
    options.add_argument("--before", type=float, default=20.0, help="seconds under the old commit")
    options.add_argument("--after", type=float, default=30.0, help="seconds under this one")
    options.add_argument("--pause", type=float, default=0.0, help="seconds between the two")
    options.add_argument("--folder", type=Path, help="keeps logs, state and reports there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-upgrade-"))
    folder.mkdir(parents=True, exist_ok=True)
    loads = Loads(chosen.rate, chosen.before, chosen.after)
    is_clean = True
    with ExitStack() as built:
        old = chosen.checkout or built.enter_context(checkout_of(chosen.commit, folder))
        for end in chosen.end:
            run, found = run_one(old, end, folder / end, loads, chosen.pause)
            text = report(f"{chosen.commit} {end}", run, found)
            keep(folder / end, run, f"{text}\n{found}")
            print(f"{text}\n{end}: {verdict_of(found)}\n{summary(run, found)}", flush=True)
            is_clean &= found.is_clean
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
