"""One run: load, crashes one after another, rest, judgement."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from tests.chaos.ceilings import Watch
from tests.chaos.check import Findings, check, longest_gap_s
from tests.chaos.evidence import ClientRequest, Evidence
from tests.chaos.gathering import gather
from tests.chaos.load import KINDS, Load
from tests.chaos.rig import Rig, Strike
from tests.support.harness.gateway_client import GatewayClient

RATE_PER_S = 50.0
WARM_UP_S = 3.0
CONNECT_S = 3.0
HASTE_AFTERWARDS = 10


@dataclass(frozen=True)
class Crashes:
    """What was done and what the clients saw."""

    clients: tuple[ClientRequest, ...]
    strikes: tuple[Strike, ...]
    stopped_s: float
    """When the load ended."""
    keys_are_honoured: bool
    watch: Watch


@dataclass(frozen=True)
class Report:
    """What a run showed. Times are for reading; only the findings are judged."""

    crashes: Crashes
    evidence: Evidence
    findings: Findings

    @property
    def unanswered(self) -> tuple[ClientRequest, ...]:
        """Requests that no try had answered with success."""
        return tuple(client for client in self.evidence.clients if not client.is_answered)


async def crash(rig: Rig, roles: Sequence[str], seconds_each: float, rng: random.Random) -> Crashes:
    """Kill the roles one after another under load."""
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        client = GatewayClient(session, rig.stack.api_url)
        keys_are_honoured = await _honours_keys(client, rig)
        kinds = [kind for kind in KINDS if kind != "job" or await _has_jobs(client, rig)]
        load = Load(client, rig.grants, RATE_PER_S, rng, kinds)
        watch = Watch(rig.tenants, rig.stack.admin_url, rig.stack.ledger_url)
        running, watching = asyncio.create_task(load.run()), asyncio.create_task(watch.run())
        strikes: list[Strike] = []
        try:
            await asyncio.sleep(WARM_UP_S)
            for role in roles:
                strike = await rig.strike(role)
                strikes.append(strike)
                await asyncio.sleep(max(0.0, strike.at_s + seconds_each - time.monotonic()))
        finally:
            stopped_s = time.monotonic()
            load.stop()
            watch.haste = HASTE_AFTERWARDS
            await running
            watching.cancel()
            await asyncio.wait({watching})
    return Crashes(tuple(load.history), tuple(strikes), stopped_s, keys_are_honoured, watch)


def run(rig: Rig, roles: Sequence[str], seconds_each: float, seed: int) -> Report:
    """A whole run on a rig that was used by nobody else."""
    crashes = asyncio.run(crash(rig, roles, seconds_each, random.Random(seed)))
    history = b"\n".join(map(msgspec.json.encode, crashes.clients))
    (rig.state_dir.parent / "history.jsonl").write_bytes(history)
    evidence = gather(
        rig,
        crashes.clients,
        keys_are_honoured=crashes.keys_are_honoured,
        breaches=crashes.watch.breaches,
    )
    return Report(crashes, evidence, check(evidence))


def render(report: Report) -> str:
    """The run as text: a line per role, the clients' errors, and what was found."""
    clients, strikes = report.crashes.clients, report.crashes.strikes
    honoured = "honoured" if report.crashes.keys_are_honoured else "not honoured"
    lines = [
        f"idempotency keys are {honoured}",
        f"{'role':<16}{'kills':>6}{'back s':>8}{'gap s':>8}",
    ]
    for role in dict.fromkeys(strike.role for strike in strikes):
        hits = [i for i, strike in enumerate(strikes) if strike.role == role]
        gap_s = max(_gap_s(report.crashes, i) for i in hits)
        backs = [strikes[i].back_after_s for i in hits]
        back_s = "never" if None in backs else f"{max(b for b in backs if b is not None):.1f}"
        lines.append(f"{role:<16}{len(hits):>6}{back_s:>8}{gap_s:>8.1f}")
    tries = Counter(t.result for client in clients for t in client.tries)
    lines += [f"tries: {dict(tries.most_common())}"]
    ends = Counter(c.tries[-1].result for c in report.unanswered if c.tries)
    lines.append(f"{len(clients)} requests, without success: {dict(ends.most_common())}")
    slowest_s = max(c.tries[-1].ended_s - c.tries[0].sent_s for c in clients if c.tries)
    lines.append(f"slowest request {slowest_s:.1f} s; {len(report.evidence.calls)} backend calls")
    for name in Findings.__dataclass_fields__:
        found = getattr(report.findings, name)
        lines.append(f"{name:<14}{len(found):>4}  {'; '.join(found[:3])[:600]}")
    return "\n".join(lines)


def _gap_s(crashes: Crashes, index: int) -> float:
    """The longest silence from a strike to the next one, or to the end of the load."""
    ends_s = [*(strike.at_s for strike in crashes.strikes), crashes.stopped_s]
    return longest_gap_s(crashes.clients, ends_s[index], ends_s[index + 1])


async def _honours_keys(client: GatewayClient, rig: Rig) -> bool:
    """Whether two requests under one key are one request."""
    body = {"model": "fake-1", "messages": [{"role": "user", "content": "twice"}]}
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first, second = [
        await client.post("/chat/completions", rig.grants[0].key, body, headers) for _ in range(2)
    ]
    return first.request_id == second.request_id


async def _has_jobs(client: GatewayClient, rig: Rig) -> bool:
    return (await client.get("/jobs", rig.grants[0].key)).status == 200
