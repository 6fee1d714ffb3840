"""`make budget-service`: what clients saw while an external budget service was killed, slowed and hung, second by second.

50 requests/s on one stack with two limiters, for a minute: organizations of each policy, one beside them in the same
partition that asks nobody, and one in another. Bounded in time; nothing leaves this machine.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import httpx

from schemas.partitions import partition_of
from tests.support.fakes.running_backend import running_backend
from tests.support.fakes.running_budget_service import RunningBudgetService, running_budget_service
from tests.support.harness.gateway_client import MODEL, GatewayClient, steer
from tests.support.harness.grants import UNLIMITED
from tests.support.harness.running_stack import running_stack
from tests.support.harness.scene import PARTITIONS

PHASES = (
    ("well", 8),
    ("killed", 10),
    ("back", 8),
    ("slow 1.5 s", 8),
    ("hangs", 12),
    ("well again", 10),
)
PER_S = {"allow": 10, "deny": 10, "last_known": 10, "beside": 10, "elsewhere": 10}


@dataclass
class Seen:
    """What the clients of one organization saw in one second."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.latencies_ms:
            return "-"
        statuses = " ".join(f"{n}x{status}" for status, n in sorted(self.statuses.items()))
        return f"{statuses} {median(self.latencies_ms):.0f}/{max(self.latencies_ms):.0f} ms"


Table = defaultdict[int, defaultdict[str, Seen]]


def _names() -> dict[str, str]:
    """An organization for each row; `beside` shares the partition of `deny`, `elsewhere` has another."""
    names = {
        policy: f"asked-{policy.replace('_', '-')}" for policy in ("allow", "deny", "last_known")
    }
    whose = partition_of(names["deny"].encode(), PARTITIONS)
    others = [(f"other-{n}", partition_of(f"other-{n}".encode(), PARTITIONS)) for n in range(200)]
    names["beside"] = next(name for name, at in others if at == whose)
    names["elsewhere"] = next(name for name, at in others if at != whose)
    return names


def _make_keys(admin: httpx.Client, names: dict[str, str], backend: str) -> dict[str, str]:
    price = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
    admin.put(
        f"/models/{MODEL}", json={"backends": [{"backend": backend}], **price}
    ).raise_for_status()
    keys = {}
    for row, org in names.items():
        body: dict[str, Any] = {"limits": UNLIMITED}
        if row in ("allow", "deny", "last_known"):
            body["budget_service"] = {"while_down": row}
        admin.put(f"/orgs/{org}", json=body).raise_for_status()
        made = admin.post("/keys", json={"org": org, "name": "load", "limits": UNLIMITED})
        keys[row] = made.raise_for_status().json()["key"]
    return keys


async def _one(client: GatewayClient, row: str, key: str, table: Table, began_s: float) -> None:
    started_s = time.monotonic()
    try:
        reply = await client.chat(key, steer(output_tokens=5), max_tokens=5)
        status = reply.status
    except (aiohttp.ClientError, TimeoutError):
        status = 0
    ended_s = time.monotonic()
    seen = table[int(started_s - began_s)][row]
    seen.statuses[status] += 1
    seen.latencies_ms.append(1_000 * (ended_s - started_s))


async def _load(client: GatewayClient, keys: dict[str, str], table: Table, for_s: int) -> None:
    """Requests at their intended times, whatever becomes of those before."""
    began_s, under_way = time.monotonic(), set[asyncio.Task[None]]()
    for tick in range(for_s * 10):
        await asyncio.sleep(max(0.0, began_s + tick / 10 - time.monotonic()))
        for row, per_s in PER_S.items():
            for _ in range(per_s // 10):
                under_way.add(asyncio.create_task(_one(client, row, keys[row], table, began_s)))
    await asyncio.wait(under_way, timeout=30)


async def _faults(service: RunningBudgetService) -> None:
    for name, lasts_s in PHASES:
        ends_s = time.monotonic() + lasts_s
        if name == "killed":
            await asyncio.to_thread(service.kill)
        elif name == "back":
            await asyncio.to_thread(service.start)
        elif name.startswith("slow"):
            await asyncio.to_thread(service.behave, delay_s=1.5)
        elif name == "hangs":
            await asyncio.to_thread(service.behave, delay_s=60)
        else:
            await asyncio.to_thread(service.behave)
        await asyncio.sleep(max(0.0, ends_s - time.monotonic()))


def _print(table: Table) -> None:
    print(f"| s | service | {' | '.join(PER_S)} |\n|{'---|' * (2 + len(PER_S))}")
    phases = [name for name, lasts_s in PHASES for _ in range(lasts_s)]
    for second, phase in enumerate(phases):
        print(f"| {second} | {phase} | {' | '.join(str(table[second][row]) for row in PER_S)} |")
    print("\nstatus counts, median/longest in ms of those sent in that second")


def _neighbours(table: Table) -> int:
    """1 if somebody who asks nobody saw anything but successes."""
    statuses: Counter[int] = Counter()
    for seconds in table.values():
        statuses += seconds["beside"].statuses + seconds["elsewhere"].statuses
    print(f"neighbours: {dict(statuses)}")
    return 0 if set(statuses) == {200} else 1


async def play() -> int:
    """Run it once; the exit status."""
    with tempfile.TemporaryDirectory(prefix="tallygate-budget-") as folder, ExitStack() as parts:
        at = Path(folder)
        backend = parts.enter_context(running_backend("fake-a", at / "fake-a.jsonl"))
        service = parts.enter_context(running_budget_service(at))
        environment = {"TALLYGATE_BUDGET_SERVICE_ENDPOINT": service.url}
        replicas = {"limiter_worker": 2}
        stack = parts.enter_context(running_stack(at / "state", [backend], replicas, environment))
        names = _names()
        for row in ("allow", "deny", "last_known"):
            service.budget(names[row], "1000")
        with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
            keys = _make_keys(admin, names, backend.name)
        table: Table = defaultdict(lambda: defaultdict(Seen))
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            client = GatewayClient(session, stack.api_url)
            await asyncio.gather(*(client.chat(key, "warm") for key in keys.values()))
            seconds = sum(lasts_s for _, lasts_s in PHASES)
            await asyncio.gather(_load(client, keys, table, seconds), _faults(service))
        _print(table)
        return _neighbours(table)


if __name__ == "__main__":
    sys.exit(asyncio.run(play()))
