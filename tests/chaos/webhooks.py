"""A receiver of webhooks that is away for minutes while dispatchers are killed; its neighbour's goes on being told.

Run as `python -m tests.chaos.webhooks [--down-s 300]`: jobs of two organizations end and thresholds are reached while the receiver of
one refuses connections and then hangs, and each minute a dispatcher is killed. The oracle is what the gateway promised (ids
of jobs) and what receivers got, verified with the public library of Standard Webhooks. Exit code 1 when an event did not arrive,
came under two ids or with two bodies, or was not signed. Bounded: ten minutes beyond the time away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.fakes.running_backend import running_backend
from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import UNLIMITED
from tests.support.harness.identity_provider import free_port
from tests.support.harness.jobs_api import chat, jobs_client
from tests.support.harness.running_stack import RunningStack, descendants, running_stack
from tests.support.webhook_receiver import Delivery, WebhookReceiver, webhook_receiver

REPLICAS: Final = {"dispatcher": 2}
KILL_EVERY_S: Final = 60.0
ARRIVES_WITHIN_S: Final = 600.0
"""After the receiver is back: the longest pause that a message of five minutes has begun, and room."""
NEAR_WITHIN_S: Final = 45.0
"""What a neighbour may wait while a dispatcher was killed: its session, a start, and a pause."""
AWAY, NEAR = "away", "near"
PERCENTS: Final = [25, 50, 75]
_EVERY_S: Final = 1.0


@dataclass
class Findings:
    """What was promised, and what is not as it should be."""

    jobs: dict[str, list[str]] = field(default_factory=lambda: {AWAY: [], NEAR: []})
    kills: int = 0
    wrong: list[str] = field(default_factory=list)


def configure(
    stack: RunningStack, receivers: dict[str, str], jobs: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Both organizations; their keys, and their secrets of webhooks."""
    keys, secrets = {}, {}
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        model = {"backends": [{"backend": "fake-a"}], "default_max_output_tokens": 64}
        admin.put(f"/models/{MODEL}", json=model).raise_for_status()
        for org, url in receivers.items():
            quota = {"quotas": [{"amount": jobs, "unit": "requests", "period": "month"}]}
            limits = {**UNLIMITED, **quota, "thresholds_percent": PERCENTS}
            body = {"limits": limits, "webhooks": {"url": f"{url}/hook"}}
            admin.put(f"/orgs/{org}", json=body).raise_for_status()
            made = admin.post("/keys", json={"org": org, "limits": UNLIMITED}).raise_for_status()
            keys[org] = str(made.json()["key"])
            told = admin.post("/webhooks/secrets", json={"org": org}).raise_for_status()
            secrets[org] = str(told.json()["secrets"][0]["secret"])
    return keys, secrets


def kill_dispatcher(stack: RunningStack, number: int) -> bool:
    """SIGKILL the one with that number, if it lives just now."""
    for pid in descendants(stack.process.pid):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"TALLYGATE_INSTANCE_ID=dispatcher-{number}".encode() in environment:
            os.kill(pid, signal.SIGKILL)
            return True
    return False


async def work(stack: RunningStack, keys: dict[str, str], found: Findings, until_s: float) -> None:
    """A job of each organization every second; what was promised counts."""

    async def make(api: httpx.AsyncClient, org: str) -> None:
        answer = await api.post("/jobs", json=chat("hello"))
        if answer.status_code == httpx.codes.ACCEPTED:
            found.jobs[org].append(str(answer.json()["id"]))

    async with (
        jobs_client(stack.api_url, keys[AWAY]) as away,
        jobs_client(stack.api_url, keys[NEAR]) as near,
    ):
        while time.monotonic() < until_s:
            next_s = time.monotonic() + _EVERY_S
            await asyncio.gather(make(away, AWAY), make(near, NEAR), return_exceptions=True)
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))


async def kill(stack: RunningStack, found: Findings, until_s: float) -> None:
    """Now one dispatcher, now the other."""
    while time.monotonic() + KILL_EVERY_S / 2 < until_s:
        await asyncio.sleep(KILL_EVERY_S / 2)
        found.kills += kill_dispatcher(stack, found.kills % 2)
        await asyncio.sleep(KILL_EVERY_S / 2)


def judge(org: str, expected: list[str], got: list[Delivery], found: Findings) -> dict[str, Any]:
    """Compare what an organization was promised with what its receiver took."""
    ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    bodies: defaultdict[str, set[bytes]] = defaultdict(set)
    for each in got:
        if each.told is None:
            found.wrong.append(f"{org}: {each.message_id} is not signed")
            continue
        subject = str(each.told["data"].get("percent") or each.told["data"]["id"])
        ids[each.told["type"], subject].add(each.message_id)
        bodies[each.message_id].add(each.body)
    missing = [job for job in expected if ("job.completed", job) not in ids]
    missing += [f"{p} %" for p in PERCENTS if ("threshold.reached", str(p)) not in ids]
    several = [subject for subject, each in ids.items() if len(each) > 1]
    changed = [message for message, each in bodies.items() if len(each) > 1]
    found.wrong += [f"{org}: {each} did not arrive" for each in missing]
    found.wrong += [f"{org}: {each} has several ids" for each in several]
    found.wrong += [f"{org}: {each} has several bodies" for each in changed]
    late_s = sorted(each.at_s - json.loads(each.body)["data"]["ended_at"] for each in _first(got))
    return {
        "promised": len(expected) + len(PERCENTS),
        "arrived": len(ids),
        "deliveries": len(got),
        "p50_s": round(late_s[len(late_s) // 2], 1) if late_s else None,
        "max_s": round(late_s[-1], 1) if late_s else None,
    }


def _first(got: list[Delivery]) -> list[Delivery]:
    """The first delivery of each message about a job."""
    first: dict[str, Delivery] = {}
    for each in got:
        if b'"ended_at"' in each.body:
            first.setdefault(each.message_id, each)
    return list(first.values())


async def run(down_s: float) -> int:
    """The whole story; the exit code."""
    found = Findings()
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        backend = running.enter_context(running_backend("fake-a", folder / "calls.jsonl"))
        near = running.enter_context(webhook_receiver())
        port = free_port()
        urls = {AWAY: f"http://127.0.0.1:{port}", NEAR: near.url}
        allowed = {"TALLYGATE_WEBHOOK_NETWORKS": "127.0.0.1"}
        stack = running.enter_context(running_stack(folder / "state", [backend], REPLICAS, allowed))
        keys, secrets = configure(stack, urls, int(down_s))
        near.secret = secrets[NEAR]
        began_s = time.monotonic()
        until_s = began_s + down_s
        killing = asyncio.create_task(kill(stack, found, until_s))
        working = asyncio.create_task(work(stack, keys, found, until_s))
        await asyncio.sleep(down_s / 2)
        print(f"{time.monotonic() - began_s:5.0f} s  it refused connections, and hangs now")
        away = running.enter_context(webhook_receiver(port))
        away.answer, away.secret = (lambda _: 0), secrets[AWAY]
        await asyncio.gather(killing, working)
        tried = len(away.deliveries)
        away.answer = lambda _: 204
        print(f"{time.monotonic() - began_s:5.0f} s  it is back; {found.kills} dispatchers killed")
        await until_all(found, away, near)
        print(f"{time.monotonic() - began_s:5.0f} s  all that was waited for")
        taken = {AWAY: away.taken("/hook"), NEAR: near.taken("/hook")}
        table = {org: judge(org, found.jobs[org], taken[org], found) for org in taken}
    for org, row in table.items():
        print(f"{org:5}", "  ".join(f"{name} {value}" for name, value in row.items()))
    print(f"sent to it while it hung: {tried}")
    if (table[NEAR]["max_s"] or 0) > NEAR_WITHIN_S:
        found.wrong.append(f"near: a message came after {table[NEAR]['max_s']} s")
    if not found.kills:
        found.wrong.append("no dispatcher was killed")
    for line in found.wrong[:20]:
        print("WRONG", line)
    return 1 if found.wrong else 0


async def until_all(found: Findings, away: WebhookReceiver, near: WebhookReceiver) -> None:
    """Until each receiver took as many messages as were promised, or for as long as that may take."""
    end_s = time.monotonic() + ARRIVES_WITHIN_S
    wanted = {org: len(jobs) + len(PERCENTS) for org, jobs in found.jobs.items()}
    while time.monotonic() < end_s:
        counts = {
            org: len({each.message_id for each in receiver.taken("/hook")})
            for org, receiver in ((AWAY, away), (NEAR, near))
        }
        if all(counts[org] >= wanted[org] for org in wanted):
            return
        await asyncio.sleep(1.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--down-s", type=float, default=300.0, help="how long it is away (300)")
    sys.exit(asyncio.run(run(parser.parse_args().down_s)))
