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

from tests.chaos.check import Findings, check, longest_gap_s
from tests.chaos.evidence import OK, ClientRequest, Evidence
from tests.chaos.gathering import gather
from tests.chaos.load import KINDS, Load
from tests.chaos.rig import Rig, Strike
from tests.e2e.gateway_client import GatewayClient

RATE_PER_S = 50.0
WARM_UP_S = 3.0
CONNECT_S = 3.0


@dataclass(frozen=True)
class Report:
    """What a run showed. Times are for reading; only the findings are judged."""

    clients: tuple[ClientRequest, ...]
    strikes: tuple[Strike, ...]
    evidence: Evidence
    findings: Findings

    @property
    def unanswered(self) -> tuple[ClientRequest, ...]:
        """Requests that no try had answered with success."""
        return tuple(client for client in self.clients if not client.is_answered)


async def crash(
    rig: Rig, roles: Sequence[str], seconds_each: float, rng: random.Random
) -> tuple[tuple[ClientRequest, ...], tuple[Strike, ...], bool]:
    """Kill the roles one after another under load; the history, the strikes, and whether the gateway
    honours idempotency keys."""
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        client = GatewayClient(session, rig.stack.api_url)
        keys_are_honoured = await _honours_keys(client, rig)
        kinds = [kind for kind in KINDS if kind != "job" or await _has_jobs(client, rig)]
        load = Load(client, rig.grants, RATE_PER_S, rng, kinds)
        running = asyncio.create_task(load.run())
        strikes: list[Strike] = []
        try:
            await asyncio.sleep(WARM_UP_S)
            for role in roles:
                strike = await rig.strike(role)
                strikes.append(strike)
                await asyncio.sleep(max(0.0, strike.at_s + seconds_each - time.monotonic()))
        finally:
            load.stop()
            await running
    return tuple(load.history), tuple(strikes), keys_are_honoured


def run(rig: Rig, roles: Sequence[str], seconds_each: float, seed: int) -> Report:
    """A whole run on a rig that was used by nobody else."""
    clients, strikes, honoured = asyncio.run(crash(rig, roles, seconds_each, random.Random(seed)))
    evidence = gather(rig, clients, keys_are_honoured=honoured)
    return Report(clients, strikes, evidence, check(evidence))


def render(report: Report) -> str:
    """The run as text: a line per role, the clients' errors, and what was found."""
    lines = [f"{'role':<16}{'kills':>6}{'back s':>8}{'gap s':>8}"]
    for role in dict.fromkeys(strike.role for strike in report.strikes):
        hits = [i for i, strike in enumerate(report.strikes) if strike.role == role]
        gap_s = max(_gap_s(report, i) for i in hits)
        backs = [report.strikes[i].back_after_s for i in hits]
        back_s = "never" if None in backs else f"{max(b for b in backs if b is not None):.1f}"
        lines.append(f"{role:<16}{len(hits):>6}{back_s:>8}{gap_s:>8.1f}")
    tries = Counter(t.result for client in report.clients for t in client.tries)
    lines += [f"tries: {dict(tries.most_common())}"]
    ends = Counter(c.tries[-1].result for c in report.unanswered if c.tries)
    lines.append(f"{len(report.clients)} requests, without success: {dict(ends.most_common())}")
    slowest_s = max(c.tries[-1].ended_s - c.tries[0].sent_s for c in report.clients if c.tries)
    lines.append(f"slowest request {slowest_s:.1f} s; {len(report.evidence.calls)} backend calls")
    for name in Findings.__dataclass_fields__:
        found = getattr(report.findings, name)
        lines.append(f"{name:<14}{len(found):>4}  {'; '.join(found[:3])[:600]}")
    return "\n".join(lines)


def _gap_s(report: Report, index: int) -> float:
    """The longest silence from a strike to the next one."""
    strikes = report.strikes
    last_s = max(t.ended_s for c in report.clients for t in c.tries if t.result == OK)
    end_s = strikes[index + 1].at_s if index + 1 < len(strikes) else last_s
    return longest_gap_s(report.clients, strikes[index].at_s, max(end_s, strikes[index].at_s))


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
