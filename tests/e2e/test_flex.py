"""Flex requests: they wait for room, are held only when they start, cost what flex costs, and are told so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest
from openai import AsyncOpenAI

from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.gateway_client import MODEL, GatewayClient
from tests.support.harness.grants import UNLIMITED, Grant, MakeKey
from tests.support.harness.jobs_api import chat, jobs_client, until, until_ended
from tests.support.harness.oracle import INPUT_NANO_USD_PER_TOKEN as INPUT
from tests.support.harness.oracle import OUTPUT_NANO_USD_PER_TOKEN as OUTPUT
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)

FLEX = {"service_tier": "flex"}


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    """An organization with a budget that half of its requests' default price would fit into."""
    return make_key("flex-org", {"budgets": [{"usd": "100", "period": "day"}]})


@pytest.fixture(scope="module")
def closed(
    stack: RunningStack, admin: httpx.Client, backends: list[RunningBackend], grant: Grant
) -> Iterator[str]:
    """A model whose only backend takes nothing, until ``_open``. What still waits in the end runs: it would lag for an hour."""
    backend = {"url": backends[0].url, "state": "drained"}
    admin.put("/backends/flex-shut", json=backend).raise_for_status()
    target = {"backend": "flex-shut", "upstream_model": MODEL}
    model = {"backends": [target], "input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
    admin.put("/models/flex-shut", json=model).raise_for_status()
    yield "flex-shut"
    _open(admin, backends)
    asked = {"Authorization": f"Bearer {grant.key}"}
    end_s = time.monotonic() + 40.0
    while time.monotonic() < end_s:
        answer = httpx.get(f"{stack.api_url}/jobs?limit=100", headers=asked, trust_env=False)
        if not any(job["status"] in ("queued", "running") for job in answer.json()["data"]):
            break
        time.sleep(0.2)
    time.sleep(2.0)  # What was cancelled is asked for with the next.


def _shut(admin: httpx.Client) -> None:
    backend = {"url": "http://127.0.0.1:9", "state": "drained"}
    admin.put("/backends/flex-shut", json=backend).raise_for_status()


def _open(admin: httpx.Client, backends: list[RunningBackend]) -> None:
    backend = {"url": backends[0].url, "state": "active"}
    admin.put("/backends/flex-shut", json=backend).raise_for_status()


def _make_flex_the_default(admin: httpx.Client, org: str) -> None:
    body = {"service_tier": "flex", "limits": UNLIMITED}
    admin.put(f"/orgs/{org}", json=body).raise_for_status()


@pytest.fixture(scope="module")
def priced(admin: httpx.Client, backends: list[RunningBackend]) -> str:
    """A model whose price states what flex costs: half."""
    targets = [{"backend": each.name, "upstream_model": MODEL} for each in backends]
    tiers = {"flex": {"multiplier": "0.5"}}
    price = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50", "tiers": tiers}
    model = {"backends": targets, "prices": [price], "default_max_output_tokens": 1_024}
    admin.put("/models/flex-priced", json=model).raise_for_status()
    return "flex-priced"


async def test_a_flex_request_is_answered_as_flex_at_its_price(
    client: GatewayClient, grant: Grant, priced: str, oracle: Oracle
) -> None:
    """In the body as OpenAI's, in a header, and in what it cost."""
    reply = await client.chat(grant.key, "alpha beta gamma", model=priced, **FLEX)

    (call,) = oracle.calls_of([reply.request_id])
    used = call.prompt_tokens * INPUT + call.completion_tokens * OUTPUT
    assert (reply.status, reply.json["service_tier"]) == (200, "flex"), reply.body
    assert reply.headers["x-tallygate-service-tier"] == "flex"
    assert reply.cost_usd == Decimal(used) / 2 / 10**9


async def test_a_stream_of_flex_says_in_each_chunk_what_serves_it(
    client: GatewayClient, grant: Grant, priced: str
) -> None:
    """And reads as any other."""
    reply = await client.chat(grant.key, "alpha beta", model=priced, stream=True, **FLEX)

    assert reply.is_stream, reply.body
    assert {chunk["service_tier"] for chunk in reply.chunks} == {"flex"}
    assert reply.headers["x-tallygate-service-tier"] == "flex"
    assert reply.text
    assert reply.cost_usd is not None


async def test_openais_sdk_reads_the_tier(stack: RunningStack, grant: Grant, priced: str) -> None:
    """As its types name it."""
    async with AsyncOpenAI(api_key=grant.key, base_url=stack.api_url) as sdk:
        answer = await sdk.chat.completions.create(
            model=priced, messages=[{"role": "user", "content": "hi"}], service_tier="flex"
        )

    assert answer.service_tier == "flex"


async def test_flex_without_a_price_of_its_own_costs_what_others_do(
    client: GatewayClient, grant: Grant, oracle: Oracle, admin: httpx.Client
) -> None:
    """On every operation that takes it: the field means the same, and no backend is told of it."""
    embeddings = {"model": MODEL, "input": "alpha beta", **FLEX}
    replies = [
        await client.chat(grant.key, "alpha beta gamma", **FLEX),
        await client.infer(grant.key, "alpha", parameters=FLEX),
        await client.post("/embeddings", grant.key, embeddings),
        await client.post("/completions", grant.key, {"model": MODEL, "prompt": "x", **FLEX}),
        await client.post(
            "/messages",
            grant.key,
            {
                "model": MODEL,
                "max_tokens": 9,
                "messages": [{"role": "user", "content": "x"}],
                **FLEX,
            },
        ),
    ]

    assert [reply.status for reply in replies] == [200] * 5, [reply.body for reply in replies]
    assert {reply.headers["x-tallygate-service-tier"] for reply in replies} == {"flex"}
    (call,) = oracle.calls_of([replies[0].request_id])
    used = call.prompt_tokens * INPUT + call.completion_tokens * OUTPUT
    assert replies[0].cost_usd == Decimal(used) / 10**9


async def test_it_waits_without_a_hold_until_there_is_room(
    client: GatewayClient,
    admin: httpx.Client,
    backends: list[RunningBackend],
    grant: Grant,
    closed: str,
    oracle: Oracle,
) -> None:
    """While no backend takes anything it is queued; nothing of a budget is held; then it runs, once."""
    waiting = asyncio.create_task(client.chat(grant.key, "waits", model=closed, **FLEX))
    await asyncio.sleep(2.0)
    limits = await client.get("/limits", grant.key)
    has_waited = not waiting.done()
    _open(admin, backends)
    reply = await waiting

    assert has_waited
    (budget,) = [each for each in limits.json["data"] if each["kind"] == "budget"]
    assert Decimal(budget["held"]) == 0
    assert (reply.status, reply.json["service_tier"]) == (200, "flex"), reply.body
    assert len(oracle.calls_of([reply.request_id])) == 1


async def test_without_room_in_time_it_ends_with_the_stated_error(
    client: GatewayClient, admin: httpx.Client, grant: Grant, closed: str
) -> None:
    """429 `resource_unavailable` soon after its deadline, and nothing was billed."""
    _shut(admin)
    began_s = time.monotonic()
    body = {"model": closed, "messages": [{"role": "user", "content": "late"}], **FLEX}
    reply = await client.post("/chat/completions", grant.key, body, {"X-Request-Timeout": "2"})

    assert (reply.status, reply.json["error"]["code"]) == (429, "resource_unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    assert 1.5 < time.monotonic() - began_s < 9.0


async def test_a_flex_job_has_an_hour_and_its_status_is_told(
    stack: RunningStack, admin: httpx.Client, grant: Grant, closed: str
) -> None:
    """It may be given up to a day, is queued until there is room, and can be cancelled meanwhile."""
    _shut(admin)
    async with jobs_client(stack.api_url, grant.key) as api:
        usual = (await api.post("/jobs", json=chat("x", model=closed, **FLEX))).json()
        long = (await api.post("/jobs", json=chat("x", model=closed, ttl_s=86_400, **FLEX))).json()
        refused = await api.post("/jobs", json=chat("x", model=closed, ttl_s=86_400))
        queued = (await api.get(f"/jobs/{usual['id']}")).json()["status"]
        cancelled = await api.delete(f"/jobs/{long['id']}")

    assert usual["expires_at"] - usual["created_at"] == 3_600
    assert long["expires_at"] - long["created_at"] == 86_400
    assert (queued, cancelled.json()["status"]) == ("queued", "cancelled")
    assert refused.status_code == 400


async def test_an_unkeyed_request_whose_client_leaves_is_cancelled(
    stack: RunningStack, admin: httpx.Client, grant: Grant, closed: str
) -> None:
    """A keyed one goes on, and whoever comes with its key again waits for the same."""
    _shut(admin)
    async with jobs_client(stack.api_url, grant.key) as api:
        before = {job["id"] for job in (await api.get("/jobs?limit=100")).json()["data"]}
        body = chat("left", model=closed, **FLEX)
        for headers in ({}, {"Idempotency-Key": "flex-left-1"}):
            with pytest.raises(httpx.ReadTimeout):
                await api.post("/chat/completions", json=body, headers=headers, timeout=1.0)
        ids = [
            job["id"]
            for job in (await api.get("/jobs?limit=100")).json()["data"]
            if job["id"] not in before
        ]
        keyed, unkeyed = ids
        left = await until(api, unkeyed, "cancelled", "queued")
        left = await until_ended(api, unkeyed) if left["status"] == "queued" else left
        kept = (await api.get(f"/jobs/{keyed}")).json()

    assert left["status"] == "cancelled"
    assert kept["status"] == "queued"


async def test_auto_means_what_key_project_or_organization_state(
    client: GatewayClient, admin: httpx.Client, make_key: MakeKey
) -> None:
    """And so does a request that names no tier; one that names the default runs at once."""
    grant = make_key("flex-by-default")
    _make_flex_the_default(admin, "flex-by-default")
    bodies = [{}, {"service_tier": "auto"}, {"service_tier": "default"}]
    end_s = time.monotonic() + 10
    while True:
        replies = [await client.chat(grant.key, "x", **body) for body in bodies]
        told = [reply.headers.get("x-tallygate-service-tier") for reply in replies]
        if told[0] == "flex" or time.monotonic() > end_s:
            break

    assert told == ["flex", "flex", None]
