"""What a caller used, told to the nano-dollar of the backend's own log, and to nobody else."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import MakeKey
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack

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


def _costs(sdk: openai.OpenAI, **asked: Any) -> dict[str | None, Decimal]:
    """By line item, to the nano-dollar, as the SDK's numbers are written."""
    start_s = int(time.time()) - 86_400
    page = sdk.admin.organization.usage.costs(start_time=start_s, **asked)
    told: dict[str | None, Decimal] = {}
    for result in (each for bucket in page.data for each in bucket.results):
        assert result.object == "organization.costs.result"
        assert result.amount is not None
        assert result.amount.currency == "usd"
        so_far = told.get(result.line_item, Decimal())
        told[result.line_item] = so_far + Decimal(str(result.amount.value))
    return told


async def test_1_openais_sdk_reads_usage_and_costs_of_its_organization(
    client: GatewayClient, stack: RunningStack, admin: httpx.Client, make_key: MakeKey
) -> None:
    """The figures of `/v1/usage` and of operators' report, to the nano-dollar; a neighbour's key reads its own, nothing."""
    grant, neighbour = make_key("costs-org"), make_key("costs-neighbour")
    for text in ("count", "count on"):
        await client.chat(grant.key, text)
    (own,) = await _once_booked(client, grant.key, "", 2)

    def read() -> None:
        asked = {"org": grant.org, "by": "model"}
        report = admin.get("/usage", params=asked).raise_for_status().json()
        # As tools have it: an admin key, and no other.
        sdk = openai.OpenAI(base_url=stack.api_url, admin_api_key=grant.key, max_retries=0)
        start_s = int(time.time()) - 86_400
        usage = sdk.admin.organization.usage.completions(
            start_time=start_s, bucket_width="1h", group_by=["model", "api_key_id"], limit=48
        )
        (result,) = [each for bucket in usage.data for each in bucket.results]
        assert result.object == "organization.usage.completions.result"
        assert (result.model, result.api_key_id) == ("fake-1", grant.key_id)
        assert result.num_model_requests == own["requests"] == 2
        told = (result.input_tokens, result.output_tokens)
        assert told == (own["input_tokens"], own["output_tokens"])
        paid = Decimal(own["cost_usd"])
        assert _costs(sdk) == {None: paid}
        assert _costs(sdk, group_by=["line_item"], api_key_ids=[grant.key_id]) == {"fake-1": paid}
        assert Decimal(report["total"]["cost_usd"]) == paid
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.admin.organization.usage.embeddings(start_time=start_s)
        assert "/v1/organization/usage/completions" in str(caught.value)

        stranger = openai.OpenAI(base_url=stack.api_url, admin_api_key=neighbour.key)
        assert _costs(stranger, api_key_ids=[grant.key_id]) == {}

    await asyncio.to_thread(read)
