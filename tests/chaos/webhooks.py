"""A receiver of webhooks that is away for minutes while dispatchers are killed; its neighbour's goes on being told.

Run as `python -m tests.chaos.webhooks [--down-s 300]`: jobs, responses in the background and batches of two organizations end, each in
several ways, and thresholds are reached while the receiver of one refuses connections and then hangs, and each minute a dispatcher is
killed. The oracle is what the gateway promised (ids) and what receivers got, verified with the public library of Standard Webhooks. Exit code 1 when an event did not arrive,
came under two ids or with two bodies, or was not signed. Bounded: ten minutes beyond the time away.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.fakes.running_backend import running_backend
from tests.support.harness.gateway_client import MODEL, steer
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
_BATCH_EVERY: Final = 10


@dataclass
class Findings:
    """What was promised, and what is not as it should be."""

    promised: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {AWAY: [], NEAR: []})
    """By organization: the type of each event, and what it is about."""
    unsure: list[str] = field(default_factory=list)
    """What was asked for and not promised: perhaps it was done all the same."""
    kills: int = 0
    wrong: list[str] = field(default_factory=list)


def configure(
    stack: RunningStack, receivers: dict[str, str], requests: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Both organizations; their keys, and their secrets of webhooks."""
    keys, secrets = {}, {}
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        model = {"backends": [{"backend": "fake-a"}], "default_max_output_tokens": 64}
        admin.put(f"/models/{MODEL}", json=model).raise_for_status()
        for org, url in receivers.items():
            quota = {"quotas": [{"amount": requests, "unit": "requests", "period": "month"}]}
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


async def make_job(api: httpx.AsyncClient, _: int) -> tuple[str, str]:
    """A job that completes. Raises ``httpx.HTTPError`` where it was not promised."""
    answer = (await api.post("/jobs", json=chat("hello"))).raise_for_status()
    return "job.completed", str(answer.json()["id"])


async def make_response(api: httpx.AsyncClient, number: int) -> tuple[str, str]:
    """A response in the background, each to another end. Raises ``httpx.HTTPError``."""
    ends: list[tuple[str, dict[str, Any]]] = [
        ("completed", {"input": "hello"}),
        ("incomplete", {"input": steer(output_tokens=9), "max_output_tokens": 4}),
        ("failed", {"input": steer(status=400)}),
    ]
    end, asked = ends[number % len(ends)]
    body = {"model": MODEL, "background": True, **asked}
    answer = (await api.post("/responses", json=body)).raise_for_status()
    return f"response.{end}", str(answer.json()["id"])


async def make_batch(api: httpx.AsyncClient, number: int) -> tuple[str, str]:
    """A batch of two lines, or of a file that is none. Raises ``httpx.HTTPError``."""
    line = {"method": "POST", "url": "/v1/chat/completions", "body": chat("hello")}
    lines = [json.dumps({"custom_id": each, **line}) for each in "ab"]
    is_wrong = number % 3 == 2
    content = b"no json" if is_wrong else "\n".join(lines).encode()
    sent = {"file": ("in.jsonl", content)}
    file = (await api.post("/files", files=sent, data={"purpose": "batch"})).raise_for_status()
    body = {
        "input_file_id": file.json()["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    answer = (await api.post("/batches", json=body)).raise_for_status()
    return "batch.failed" if is_wrong else "batch.completed", str(answer.json()["id"])


async def work(stack: RunningStack, keys: dict[str, str], found: Findings, until_s: float) -> None:
    """Of each organization a job or a response every second, and a batch every ten; what was promised counts."""

    async def make(api: httpx.AsyncClient, org: str, turn: int) -> None:
        makers = [make_response if turn % 2 else make_job]
        makers += [make_batch] if turn % _BATCH_EVERY == 0 else []
        for maker in makers:
            try:
                found.promised[org].append(await maker(api, turn // 2))
            except httpx.HTTPError as error:
                found.unsure.append(f"{org}: {error!r}")

    async with (
        jobs_client(stack.api_url, keys[AWAY]) as away,
        jobs_client(stack.api_url, keys[NEAR]) as near,
    ):
        turns = itertools.count()
        while time.monotonic() < until_s:
            next_s, turn = time.monotonic() + _EVERY_S, next(turns)
            await asyncio.gather(make(away, AWAY, turn), make(near, NEAR, turn))
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))


async def kill(stack: RunningStack, found: Findings, until_s: float) -> None:
    """Now one dispatcher, now the other."""
    while time.monotonic() + KILL_EVERY_S / 2 < until_s:
        await asyncio.sleep(KILL_EVERY_S / 2)
        found.kills += kill_dispatcher(stack, found.kills % 2)
        await asyncio.sleep(KILL_EVERY_S / 2)


def judge(
    org: str, expected: list[tuple[str, str]], got: list[Delivery], found: Findings
) -> dict[str, Any]:
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
    wanted = [*expected, *(("threshold.reached", str(percent)) for percent in PERCENTS)]
    missing = [event for event in wanted if event not in ids]
    unasked = [] if found.unsure else [event for event in ids if event not in wanted]
    several = [subject for subject, each in ids.items() if len(each) > 1]
    changed = [message for message, each in bodies.items() if len(each) > 1]
    found.wrong += [f"{org}: {each} did not arrive" for each in missing]
    found.wrong += [f"{org}: {each} has several ids" for each in several]
    found.wrong += [f"{org}: {each} was not promised" for each in unasked]
    found.wrong += [f"{org}: {each} has several bodies" for each in changed]
    late_s = sorted(each.at_s - json.loads(each.body)["data"]["ended_at"] for each in _first(got))
    return {
        "promised": len(wanted),
        "arrived": len(ids),
        "deliveries": len(got),
        "kinds": dict(Counter(happened for happened, _ in ids)),
        "p50_s": round(late_s[len(late_s) // 2], 1) if late_s else None,
        "max_s": round(late_s[-1], 1) if late_s else None,
    }


def _first(got: list[Delivery]) -> list[Delivery]:
    """The first delivery of each message about something that ended."""
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
        keys, secrets = configure(stack, urls, int(down_s * 6 / 5))
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
        table = {org: judge(org, found.promised[org], taken[org], found) for org in taken}
    for org, row in table.items():
        print(f"{org:5}", "  ".join(f"{name} {value}" for name, value in row.items()))
    print(
        f"sent to it while it hung: {tried}; not promised: {len(found.unsure)} {found.unsure[:3]}"
    )
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
    wanted = {org: len(events) + len(PERCENTS) for org, events in found.promised.items()}
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
