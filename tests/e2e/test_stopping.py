"""SIGTERM to ingress under load: what is running is answered, and it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.support.harness.gateway_client import GatewayClient, steer
from tests.support.harness.grants import MakeKey
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack, lasting

pytestmark = pytest.mark.timeout(120, func_only=True)

BACK_WITHIN_S = 40.0


def _ingress_pid(stack: RunningStack) -> int:
    for pid in lasting(stack.process.pid):
        if b"TALLYGATE_INSTANCE_ID=ingress-0\0" in Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError("ingress does not run")


async def _until_ready(stack: RunningStack) -> None:
    give_up_s = time.monotonic() + BACK_WITHIN_S
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as client:
        while time.monotonic() < give_up_s:
            try:
                if (await client.get("/status/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)
    raise AssertionError("ingress did not come back")


async def test_what_runs_at_sigterm_is_answered(
    stack: RunningStack, crowd: GatewayClient, make_key: MakeKey, oracle: Oracle
) -> None:
    """Streams too; whoever is refused is told so by a status or by a closed port, never by a cut."""
    grant = make_key("stopping-org")
    words = steer(output_tokens=5, delay_ms=3_000)
    plain = [crowd.chat(grant.key, words, max_tokens=5) for _ in range(20)]
    streams = [crowd.chat(grant.key, words, max_tokens=5, stream=True) for _ in range(20)]
    asking = asyncio.gather(*plain, *streams)
    await asyncio.sleep(1.5)

    os.kill(_ingress_pid(stack), signal.SIGTERM)
    replies = await asking
    await _until_ready(stack)

    assert {reply.status for reply in replies} == {200}
    assert all(reply.events[-1] == "[DONE]" for reply in replies[20:])
    assert len(oracle.calls_of(reply.request_id for reply in replies)) == 40
    assert (await crowd.chat(grant.key, "again", max_tokens=1)).status == 200
