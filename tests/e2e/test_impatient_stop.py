"""An ingress that must end before its calls do: every client is told so, and nobody pays in vain."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fakes.call_log import Call, read_calls
from tests.support.fakes.running_backend import running_backend
from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.jobs_api import jobs_client
from tests.support.harness.running_stack import RunningStack, lasting, running_stack

CALLS = 10
LASTS_MS = 9_000
PATIENCE_S = 2
CANCELLED_WITHIN_MS = 7_000
BACK_WITHIN_S = 40.0


def _ingress_pid(stack: RunningStack) -> int:
    for pid in lasting(stack.process.pid):
        if b"TALLYGATE_INSTANCE_ID=ingress-0\0" in Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError("ingress does not run")


def _body(*, stream: bool) -> dict[str, Any]:
    words = steer(delay_ms=200 if stream else LASTS_MS, chunks=LASTS_MS // 200 if stream else None)
    return {"model": MODEL, "messages": [{"role": "user", "content": words}], "stream": stream}


async def _again(api: httpx.AsyncClient, body: dict[str, Any], key: str) -> httpx.Response:
    """The same call with its key, once ingress is back."""
    end_s = time.monotonic() + BACK_WITHIN_S
    while True:
        try:
            answer = await api.post(
                "/chat/completions", json=body, headers={"idempotency-key": key}
            )
        except httpx.TransportError:
            answer = httpx.Response(503)
        if answer.status_code != 503 or time.monotonic() >= end_s:
            return answer
        await asyncio.sleep(0.2)


def _took_ms(call: Call) -> int:
    assert call.end is not None
    return call.end.at_ms - call.start.at_ms


@pytest.mark.timeout(150, func_only=True)
async def test_calls_longer_than_the_patience_end_with_typed_errors(tmp_path: Path) -> None:
    """No bare 500, no stream that is merely cut; what has no key stops at the backend, the other is fetched."""
    log, key = tmp_path / "calls.jsonl", "kept"
    patience = {"TALLYGATE_DRAIN_S": str(PATIENCE_S)}
    with (
        running_backend("fake-a", log) as backend,
        running_stack(tmp_path / "state", [backend], environment=patience) as stack,
    ):
        async with jobs_client(stack.api_url, stack.first_key) as api:
            path, plain, stream = "/chat/completions", _body(stream=False), _body(stream=True)
            asking = asyncio.gather(
                *(api.post(path, json=plain) for _ in range(CALLS)),
                *(api.post(path, json=stream) for _ in range(CALLS)),
                api.post(path, json=plain, headers={"idempotency-key": key}),
            )
            await asyncio.sleep(1.5)
            os.kill(_ingress_pid(stack), signal.SIGTERM)
            *answers, keyed = await asking
            fetched = await _again(api, plain, key)
        calls = read_calls(log)

    assert {answer.status_code for answer in [*answers[:CALLS], keyed]} == {503}
    codes = {answer.json()["error"]["code"] for answer in [*answers[:CALLS], keyed]}
    last = {answer.text.strip().rpartition("data: ")[2] for answer in answers[CALLS:]}
    assert codes == {"service_unavailable"}
    assert {json.loads(event)["error"]["code"] for event in last} == {"service_unavailable"}
    assert fetched.status_code == 200, fetched.text
    assert fetched.headers["x-request-id"] == keyed.headers["x-request-id"]
    unkeyed = [call for call in calls if call.start.request_id != keyed.headers["x-request-id"]]
    assert (len(calls), len(unkeyed)) == (2 * CALLS + 1, 2 * CALLS)
    assert max(map(_took_ms, unkeyed)) < CANCELLED_WITHIN_MS
