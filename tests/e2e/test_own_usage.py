"""What a caller used, told to the nano-dollar of the backend's own log, and to nobody else."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import MakeKey
from tests.support.harness.oracle import Oracle, cost_nano_usd

pytestmark = pytest.mark.timeout(60, func_only=True)

BOOKED_WITHIN_S = 15.0


def _narrow_key(admin: httpx.Client, org: str) -> dict[str, Any]:
    body = {"org": org, "name": "narrow", "scopes": ["inference"]}
    made: dict[str, Any] = admin.post("/keys", json=body).raise_for_status().json()
    return made


async def _results(client: GatewayClient, key: str, query: str = "") -> list[dict[str, Any]]:
    reply = await client.get(f"/usage{query}", key)
    assert reply.status == 200, reply.body
    return [result for bucket in reply.json["data"] for result in bucket["results"]]


async def _once_booked(
    client: GatewayClient, key: str, query: str, requests: int
) -> list[dict[str, Any]]:
    until_s = time.monotonic() + BOOKED_WITHIN_S
    while True:
        results = await _results(client, key, query)
        if sum(each["requests"] for each in results) == requests:
            return results
        assert time.monotonic() < until_s, results
        await asyncio.sleep(0.1)


async def test_usage_is_told_to_its_organization_alone(
    client: GatewayClient, admin: httpx.Client, make_key: MakeKey, oracle: Oracle
) -> None:
    """By key and model as the backend counted it; a key of limited scopes sees its own, a neighbour nothing."""
    grant, neighbour = make_key("usage-org"), make_key("usage-neighbour")
    narrow = _narrow_key(admin, grant.org)
    replies = [await client.chat(key, "count") for key in (grant.key, grant.key, narrow["key"])]
    results = await _once_booked(client, grant.key, "?group_by=key_id,model", 3)
    own = await _results(client, narrow["key"])

    calls = oracle.calls_of(reply.request_id for reply in replies)
    assert sorted((each["key_id"], each["requests"], each["model"]) for each in results) == sorted(
        [(grant.key_id, 2, "fake-1"), (narrow["key_id"], 1, "fake-1")]
    )
    assert sum(Decimal(each["cost_usd"]) for each in results) == Decimal(
        sum(map(cost_nano_usd, calls))
    ) * Decimal("1e-9")
    assert sum(each["input_tokens"] for each in results) == sum(c.prompt_tokens for c in calls)
    assert [(each["requests"], each["key_id"]) for each in own] == [(1, None)]
    assert await _results(client, neighbour.key) == []
