"""Limits that are spent to 50, 80 and 100 % are told of once each, whichever process is killed meanwhile.

The oracle is the backends' own log; the audit topic is read as a stranger reads it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tests.support.fakes.running_backend import running_backend
from tests.support.harness.gateway_client import MODEL, GatewayClient, steer
from tests.support.harness.grants import UNLIMITED
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack, descendants, running_stack
from tests.support.harness.store_refusals import refusals
from tests.support.harness.wanted_ledger import USERS

pytestmark = pytest.mark.timeout(300)

REQUESTS, TOGETHER, OUTPUT_TOKENS, TOKENS = 120, 80, 40, 5_500
USD = 1_000_000_000
SETTLED_WITHIN_S = 60.0
PRICES = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}


def kill_one_accounting(stack: RunningStack, number: int) -> None:
    """The one with that number, if it lives just now."""
    for pid in descendants(stack.process.pid):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"TALLYGATE_INSTANCE_ID=accounting-{number}".encode() in environment:
            os.kill(pid, signal.SIGKILL)
            return


def configure(stack: RunningStack, budget_usd: str) -> str:
    """An organization with a budget, a project and a key with quotas of their own; the key's secret."""
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        model = {"backends": [{"backend": "fake-a"}], "default_max_output_tokens": 64, **PRICES}
        admin.put(f"/models/{MODEL}", json=model).raise_for_status()
        budget = {"budgets": [{"usd": budget_usd, "period": "total"}]}
        admin.put("/orgs/acme", json={"limits": {**UNLIMITED, **budget}}).raise_for_status()
        quota = {"quotas": [{"amount": TOKENS, "unit": "tokens", "period": "month"}]}
        admin.put("/projects/p", json={"org": "acme", "limits": quota}).raise_for_status()
        limits: dict[str, Any] = {
            "quotas": [{"amount": REQUESTS, "unit": "requests", "period": "month"}],
            "thresholds_percent": [25, 75],
        }
        body = {"org": "acme", "name": "n", "project": "p", "limits": {**UNLIMITED, **limits}}
        made = admin.post("/keys", json=body).raise_for_status().json()
        return str(made["key"])


async def spend(stack: RunningStack, key: str) -> None:
    """Requests eight at a time and then one, whose hold leaves room for nearly all of a limit to be spent; and every second a
    kill of one of the two that keep the books."""
    words = steer(output_tokens=OUTPUT_TOKENS, delay_ms=100)

    async def worker(client: GatewayClient, waiting: list[int]) -> None:
        while waiting:
            waiting.pop()
            await client.chat(key, words, max_tokens=OUTPUT_TOKENS)

    async def kill() -> None:
        for number in range(1_000):
            await asyncio.sleep(1.0)
            kill_one_accounting(stack, number % 2)

    async with aiohttp.ClientSession() as session:
        killing = asyncio.create_task(kill())
        client, together = GatewayClient(session, stack.api_url), list(range(TOGETHER))
        await asyncio.gather(*(worker(client, together) for _ in range(8)))
        await worker(client, list(range(REQUESTS)))
        killing.cancel()
        await asyncio.wait({killing})


def told(stack: RunningStack, expected: int) -> list[LogRecord]:
    """The events in the audit topic, copies too."""

    def is_enough(records: list[LogRecord]) -> bool:
        return len({record.value["audit_id"] for record in thresholds(records)}) >= expected

    return thresholds(KafkaLog(stack.kafka).read("audit.router", is_enough, SETTLED_WITHIN_S))


def thresholds(records: list[LogRecord]) -> list[LogRecord]:
    return [record for record in records if record.value["action"] == "threshold"]


async def test_each_threshold_is_told_once_while_accounting_is_killed_again_and_again(
    tmp_path: Path,
) -> None:
    """Of a budget in total, of quotas of a project and of a key, each by its own percentages; with the rights of each process in the stores."""
    with ExitStack() as running:
        backend = running.enter_context(running_backend("fake-a", tmp_path / "fake-a.jsonl"))
        stack = running.enter_context(
            running_stack(
                tmp_path / "state", [backend], {"accounting": 2}, environment={USERS: "1"}
            )
        )
        key = configure(stack, "0.008")
        await spend(stack, key)
        calls = Oracle([backend]).calls()
        reached = {
            ("org:budget:total", percent)
            for percent in (50, 80, 100)
            if sum(map(cost_nano_usd, calls)) * 100 >= percent * USD * 8 // 1_000
        }
        tokens = sum(call.prompt_tokens + call.completion_tokens for call in calls)
        reached |= {
            ("project:quota:tokens:month", percent)
            for percent in (50, 80, 100)
            if tokens * 100 >= percent * TOKENS
        }
        reached |= {
            ("key:quota:requests:month", p) for p in (25, 75) if len(calls) * 100 >= p * REQUESTS
        }
        started_s = time.monotonic()
        events = await asyncio.to_thread(told, stack, len(reached))
        assert refusals(stack) == []

    details = [json.loads(record.value["detail"]) for record in events]
    by_id = Counter(
        (detail["limit_id"], detail["percent"], detail["period"])
        for detail in {
            r.value["audit_id"]: d for r, d in zip(events, details, strict=True)
        }.values()
    )
    assert {(limit, percent) for limit, percent, _ in by_id} == reached
    assert set(by_id.values()) == {1}
    assert len(reached) >= 5, "the load is to reach most of them"
    assert all(detail["usage"] * 100 >= detail["percent"] * detail["limit"] for detail in details)
    assert time.monotonic() - started_s < SETTLED_WITHIN_S
