"""A steady load while processes are changed one after another: what clients saw of each change, and the books.

Clients do not try again: a request that is not answered with success by its first try has failed.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from deploy.embedded.process import output_of
from tests.chaos.check import Findings, check, longest_gap_s
from tests.chaos.evidence import ClientRequest, Evidence
from tests.chaos.gathering import gather
from tests.chaos.load import Load
from tests.chaos.loss_findings import BALANCE, misbooked
from tests.chaos.rig import Rig
from tests.chaos.run import CONNECT_S
from tests.chaos.stores import ledger_servers, settled, table_costs
from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.running_stack import TALLYGATE, RunningStack

RATE_PER_S: Final = 50.0
KINDS: Final = ("sync", "sync", "stream", "stream", "job", "plain")
SEED: Final = 14
_COMMAND_WITHIN_S: Final = 200.0
_SHOWN_MAX: Final = 5


@dataclass(frozen=True)
class Change:
    """One thing that was done to a process, and when clients may have noticed."""

    process: str
    what: str
    began_s: float
    ended_s: float


@dataclass
class Changes:
    """Does one thing after the other while the load runs."""

    settles_s: float
    """How long each is watched after it was done."""
    warm_up_s: float = 5.0
    """How long the load runs before."""
    done: list[Change] = field(default_factory=list)

    async def during(self, process: str, what: str, doing: Awaitable[object]) -> None:
        """Do it, and watch."""
        began_s = time.monotonic()
        await doing
        await asyncio.sleep(self.settles_s)
        self.done.append(Change(process, what, began_s, time.monotonic()))
        print(f"{process}: {what}, {time.monotonic() - began_s:.1f} s", flush=True)


@dataclass(frozen=True)
class Seen:
    """What a run showed."""

    changes: tuple[Change, ...]
    evidence: Evidence
    findings: Findings
    misbooked: tuple[str, ...]
    failed_looks: int
    """How often a job could not be looked at."""

    @property
    def failed(self) -> tuple[ClientRequest, ...]:
        """Requests without success."""
        return tuple(client for client in self.evidence.clients if not client.is_answered)

    @property
    def has_books(self) -> bool:
        """Whether nothing is lost, doubled or miscounted: backends, log, tables and balances say the same."""
        return self.findings.is_clean and not self.misbooked

    @property
    def is_clean(self) -> bool:
        """Nobody noticed anything."""
        return self.has_books and not self.failed and not self.failed_looks


async def under_load(
    rig: Rig, url: str, rate_per_s: float, changes: Changes, do: Callable[[], Awaitable[None]]
) -> Seen:
    """Load, changes, rest, judgement."""
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        client = GatewayClient(session, url)
        load = Load(client, rig.grants, rate_per_s, random.Random(SEED), KINDS, tries_max=1)
        running = asyncio.create_task(load.run())
        try:
            await changes.during("none", "nothing", asyncio.sleep(changes.warm_up_s))
            await do()
        finally:
            load.stop()
            await running
    evidence = await asyncio.to_thread(gather, rig, load.history)
    servers = ledger_servers(rig.state_dir)
    booked = (
        *misbooked(evidence, table_costs(servers), "tables"),
        *misbooked(evidence, settled(servers, BALANCE), "balance"),
    )
    return Seen(tuple(changes.done), evidence, check(evidence), booked, load.failed_looks)


async def tallygate(stack: RunningStack, *words: str) -> str:
    """A command for that stack, as its user types it; what it printed. Raises RuntimeError when it fails."""
    process = await asyncio.create_subprocess_exec(
        str(TALLYGATE),
        *words,
        env={**os.environ, "XDG_STATE_HOME": str(stack.state_dir.parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, story = await output_of(process, _COMMAND_WITHIN_S)
    if process.returncode:
        raise RuntimeError(f"tallygate {' '.join(words)}: {story.decode()[-2_000:]}")
    return printed.decode()


def render(seen: Seen) -> str:
    """A row for each change, and what was found."""
    clients = seen.evidence.clients
    width = max((len(change.what) for change in seen.changes), default=0) + 2
    lines = [
        f"{'process':<18}{'what':<{width}}{'s':>6}{'requests':>10}{'failed':>8}{'gap s':>8}{'slowest s':>11}"
    ]
    lines += [_row(change, clients, width) for change in seen.changes]
    failures = Counter(c.tries[-1].result if c.tries else "untried" for c in seen.failed)
    lines.append(
        f"{len(clients)} requests, {len(seen.failed)} failed: {dict(failures.most_common())};"
        f" {seen.failed_looks} looks at jobs failed"
    )
    found = {name: getattr(seen.findings, name) for name in Findings.__dataclass_fields__}
    found |= {"misbooked": seen.misbooked}
    for name, texts in found.items():
        lines.append(f"{name:<14}{len(texts):>4}  {'; '.join(texts[:_SHOWN_MAX])[:800]}")
    return "\n".join(lines)


def _row(change: Change, clients: Sequence[ClientRequest], width: int) -> str:
    sent = [c for c in clients if c.tries and change.began_s <= c.tries[0].sent_s < change.ended_s]
    failed = sum(not client.is_answered for client in sent)
    slowest_s = max((c.tries[-1].ended_s - c.tries[0].sent_s for c in sent), default=0.0)
    gap_s = longest_gap_s(clients, change.began_s, change.ended_s)
    took_s = change.ended_s - change.began_s
    return (
        f"{change.process:<18}{change.what:<{width}}{took_s:>6.1f}{len(sent):>10}{failed:>8}"
        f"{gap_s:>8.2f}{slowest_s:>11.2f}"
    )
