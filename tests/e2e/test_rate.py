"""A token bucket admits what it holds and not one more, however many ask at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import MakeKey
from tests.support.harness.oracle import Oracle

pytestmark = pytest.mark.timeout(60, func_only=True)
RATE_PER_S = 5
BURST = 20
POSTS = 100


async def test_burst_is_admitted_and_the_rest_told_when_to_come_back(
    client: GatewayClient, make_key: MakeKey, oracle: Oracle
) -> None:
    """Of 100 posts at once the bucket's 20 and its refill pass; a refused one passes on time."""
    grant = make_key("rate-org", {"requests_per_s": RATE_PER_S, "burst": BURST})
    started_s = time.monotonic()
    replies = await asyncio.gather(*(client.infer(grant.key, f"n {n}") for n in range(POSTS)))
    elapsed_s = time.monotonic() - started_s

    admitted = [reply for reply in replies if reply.status == 200]
    refused = [reply for reply in replies if reply.status == 429]
    assert len(admitted) + len(refused) == POSTS
    assert BURST <= len(admitted) <= BURST + RATE_PER_S * elapsed_s
    assert len(oracle.calls_of(reply.request_id for reply in replies)) == len(admitted)
    for reply in refused:
        body = reply.json
        assert body.keys() == {
            "error",
            "code",
            "limit_type",
            "current_usage",
            "limit",
            "retry_after",
        }
        assert (body["code"], body["limit_type"]) == ("RATE_LIMIT_EXCEEDED", "rate_limit")
        assert body["retry_after"] == int(reply.headers["retry-after"]) >= 1
        assert 0 < int(reply.headers["retry-after-ms"]) <= body["retry_after"] * 1_000

    # The hint is kept word for word: the same client waits exactly as long as it was told.
    last = await client.infer(grant.key, "once more")
    while last.status == 429:
        told_ms = int(last.headers["retry-after-ms"])
        await asyncio.sleep(told_ms / 1_000)
        last = await client.infer(grant.key, "as told")
        assert last.status == 200, f"told to wait {told_ms} ms, and refused again"
