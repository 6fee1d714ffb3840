"""What ingress refuses by itself, on the real parts: spent budgets, floods, and their traces."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.e2e.test_operations import timeline
from tests.support.harness.gateway_client import GatewayClient, Reply
from tests.support.harness.grants import UNLIMITED, MakeKey
from tests.support.harness.kafka_log import KafkaLog

pytestmark = pytest.mark.timeout(90, func_only=True)

REQUESTS = "inference.requests.v1"
MIB = 1024 * 1024
FOUND_WITHIN_S = 15.0


def _budget(usd: str) -> dict[str, Any]:
    return {"budgets": [{"usd": usd, "period": "total"}], "on_limit": "reject"}


def _bytes_in_log(kafka_log: KafkaLog, org: str) -> list[int]:
    """Sizes of the bodies of the organization that stand in the log of requests."""
    records = kafka_log.read(REQUESTS, lambda _: True, FOUND_WITHIN_S)
    return [len(record.value["payload"]) for record in records if record.key == org]


async def test_a_budget_raised_under_load_of_refusals_is_seen_within_a_second(
    client: GatewayClient, admin: httpx.Client, make_key: MakeKey
) -> None:
    """Eight clients repeat their 402 all the time; the first 200 comes soon after the change."""
    grant = make_key("gate-raised", _budget("0.000000001"))
    replies: list[tuple[float, Reply]] = []
    is_over = asyncio.Event()

    async def insist() -> None:
        while not is_over.is_set():
            reply = await client.chat(grant.key, "hello", max_tokens=5)
            replies.append((time.monotonic(), reply))
            is_over.set() if reply.status == 200 else None

    clients = [asyncio.create_task(insist()) for _ in range(8)]
    await asyncio.sleep(2.0)
    refused = len(replies)
    body = {"limits": {**UNLIMITED, **_budget("5")}}
    raised = await asyncio.to_thread(admin.put, "/orgs/gate-raised", json=body)
    raised_s = time.monotonic()
    async with asyncio.timeout(10):
        await asyncio.gather(*clients)

    raised.raise_for_status()
    assert refused > 20
    assert {reply.status for _, reply in replies} == {402, 200}
    assert min(at_s for at_s, reply in replies if reply.status == 200) - raised_s < 1.0


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp's advice to its caller
async def test_refused_bodies_do_not_fill_the_log(
    client: GatewayClient, make_key: MakeKey, kafka_log: KafkaLog
) -> None:
    """Of 60 bodies of 4 MiB at once that cannot be paid at most two reach Kafka."""
    grant = make_key("gate-bodies", _budget("0.000000001"))
    words = "x" * (4 * MIB - 1024)

    async def insist() -> Reply:
        while True:
            reply = await client.chat(grant.key, words)
            if reply.status not in {429, 503}:
                return reply
            await asyncio.sleep(int(reply.headers["retry-after-ms"]) / 1_000)

    replies = await asyncio.gather(*(insist() for _ in range(60)))

    sizes = await asyncio.to_thread(_bytes_in_log, kafka_log, grant.org)

    assert {reply.status for reply in replies} == {402}
    assert len({reply.body for reply in replies}) == 1
    assert 1 <= len(sizes) <= 2


async def test_a_request_that_ingress_refused_is_found_by_its_id(
    client: GatewayClient, admin: httpx.Client, make_key: MakeKey
) -> None:
    """It has no record but the audit event that lists it among others."""
    grant = make_key("gate-audited", _budget("0.000000001"))
    await client.chat(grant.key, "hello")
    # At once, because a verdict holds for a second and is then asked for again.
    replies = await asyncio.gather(*(client.chat(grant.key, "hello") for _ in range(4)))

    found = await asyncio.to_thread(timeline, admin, replies[-1].request_id, {"audit"})
    params = {"request_id": replies[-1].request_id}
    listed = (await asyncio.to_thread(admin.get, "/audit", params=params)).json()["items"]

    assert (found["status"], found["http_status"]) == ("refused", 402)
    assert [step["what"] for step in found["steps"]] == ["audit"]
    (event,) = listed
    assert replies[-1].request_id in event["detail"]["request_ids"]
    assert (event["org"], event["actor"]) == ("gate-audited", grant.key_id)


async def test_a_flood_of_one_organization_leaves_its_neighbour_alone(
    crowd: GatewayClient, make_key: MakeKey, kafka_log: KafkaLog
) -> None:
    """What is far above its rate never reaches the log; the other organization sees no refusal."""
    loud = make_key("gate-loud", {"requests_per_s": 5, "burst": 10})
    quiet = make_key("gate-quiet")
    flood = [crowd.chat(loud.key, f"n {n}", max_tokens=1) for n in range(300)]
    others = [crowd.chat(quiet.key, f"n {n}", max_tokens=1) for n in range(20)]

    replies = await asyncio.gather(*flood, *others)
    sizes = await asyncio.to_thread(_bytes_in_log, kafka_log, loud.org)

    assert {reply.status for reply in replies[:300]} == {200, 429}
    assert {reply.status for reply in replies[300:]} == {200}
    assert len(sizes) <= 2 * 10 + 2 * 5 * 10
