"""Results that are too large for their outcomes: found in the log when the bus has forgotten them."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import httpx
import pytest
import redis

from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)
DONE_WITHIN_S = 30.0
LARGE = steer(output_tokens=2_000)


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("results-org")


def _client(stack: RunningStack, grant: Grant) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {grant.key}"}
    return httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=30, trust_env=False)


def _chat(content: str) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 2_000,
    }


def _forget_frames(stack: RunningStack) -> None:
    with redis.Redis.from_url(stack.bus_url) as bus:
        bus.flushall()


async def _ended(api: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    end_s = time.monotonic() + DONE_WITHIN_S
    while time.monotonic() < end_s:
        job: dict[str, Any] = (await api.get(f"/jobs/{job_id}")).json()
        if job["status"] not in ("queued", "running"):
            return job
        await asyncio.sleep(0.1)
    raise AssertionError(f"job {job_id} has not ended")


@pytest.mark.parametrize("content", ["hello", LARGE])
async def test_a_job_is_told_the_same_when_its_frames_are_gone(
    stack: RunningStack, grant: Grant, content: str
) -> None:
    """From the ledger, then from the log; and a list tells the same but for the result."""
    async with _client(stack, grant) as api:
        job_id = (await api.post("/jobs", json=_chat(content))).json()["id"]
        ended = await _ended(api, job_id)
        _forget_frames(stack)
        soon = (await api.get(f"/jobs/{job_id}")).json()
        await asyncio.sleep(1.0)
        later = (await api.get(f"/jobs/{job_id}")).json()
        (listed,) = [j for j in (await api.get("/jobs")).json()["data"] if j["id"] == job_id]

    assert ended["status"] == "completed", ended
    assert (content == LARGE) == (len(str(ended["result"])) > 4_096)
    assert soon == later == ended
    assert listed == {name: value for name, value in ended.items() if name != "result"}


async def test_a_large_keyed_answer_is_replayed_when_its_frames_are_gone(
    stack: RunningStack, grant: Grant
) -> None:
    """The same bytes, from one record."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    async with _client(stack, grant) as api:
        first = await api.post("/chat/completions", json=_chat(LARGE), headers=key)
        _forget_frames(stack)
        await asyncio.sleep(1.0)
        second = await api.post("/chat/completions", json=_chat(LARGE), headers=key)

    assert (first.status_code, second.status_code) == (200, 200), second.text
    assert len(first.content) > 4_096
    assert second.headers["idempotent-replayed"] == "true"
    assert second.content == first.content
