"""Under policy defer a request waits for what runs, or hears the truth when waiting cannot help."""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.support.fakes.call_log import most_at_once
from tests.support.harness.gateway_client import MODEL, GatewayClient, Reply, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.ledger_view import LedgerView
from tests.support.harness.oracle import Oracle

pytestmark = pytest.mark.timeout(90, func_only=True)
NANO = Decimal("1e-9")
TOKENS = 1_000
READ_DEADLINE_S = 20.0


def _budget(usd: str) -> dict[str, Any]:
    return {"budgets": [{"usd": usd, "period": "total"}], "on_limit": "defer"}


def _room_for_one(make_key: MakeKey, org: str) -> Grant:
    """A budget in which one worst case fits beside what is spent, but not two."""
    return make_key(org, _budget(str(TOKENS * 1_500 * 3 // 2 * NANO)))


async def _chat(
    client: GatewayClient, grant: Grant, *, delay_ms: int, timeout_s: float = 30
) -> Reply:
    content = steer(output_tokens=10, delay_ms=delay_ms)
    messages = [{"role": "user", "content": content}]
    body = {"model": MODEL, "messages": messages, "max_tokens": TOKENS}
    headers = {"X-Request-Timeout": str(timeout_s)}
    return await client.post("/chat/completions", grant.key, body, headers)


def _of(kafka_log: KafkaLog, topic: str, request_id: str, count: int) -> list[LogRecord]:
    """The request's records of the topic, once there are `count`."""

    def mine(records: list[LogRecord]) -> list[LogRecord]:
        return [record for record in records if record.value["request_id"] == request_id]

    found = kafka_log.read(topic, lambda records: len(mine(records)) >= count, READ_DEADLINE_S)
    return mine(found)


async def test_a_deferred_request_completes_when_a_running_hold_settles(
    client: GatewayClient,
    make_key: MakeKey,
    oracle: Oracle,
    kafka_log: KafkaLog,
    ledger: LedgerView,
    admin: httpx.Client,
) -> None:
    """It runs after the other, on the admission of its own first record, and the books close."""
    grant = _room_for_one(make_key, "defer-completes")
    first = asyncio.create_task(_chat(client, grant, delay_ms=1_500))
    await ledger.becomes_held(grant.org)
    second = await _chat(client, grant, delay_ms=0)

    assert second.status == 200, second.body
    assert (await first).status == 200
    calls = oracle.calls_of([first.result().request_id, second.request_id])
    assert (len(calls), most_at_once(calls)) == (2, 1)
    waits = _of(kafka_log, "inference.deferred-1s.v1", second.request_id, 1)
    assert waits
    assert all(wait.key == grant.org and wait.value["not_before_ms"] for wait in waits)
    (admitted,) = _of(kafka_log, "inference.dispatch.v1", second.request_id, 1)
    assert admitted.value["accepted_ref"]["topic"] == "inference.requests.v1"
    audits = _of(kafka_log, "audit.router", second.request_id, len(waits))
    assert {audit.value["audit_id"] for audit in audits} == {
        f"{second.request_id}:deferred:{number}" for number in range(1, len(waits) + 1)
    }
    detail = json.loads(audits[0].value["detail"])
    assert (detail["code"], detail["limit_id"]) == ("BUDGET_EXCEEDED", "org:budget:total")
    held = await ledger.becomes_free(grant.org)
    assert not any(held.values()), held
    verdict = await asyncio.to_thread(admin.get, "/ledger/verify", params={"deadline_s": 20})
    assert verdict.raise_for_status().json()["difference"] == 0, verdict.text


async def test_a_deferred_request_hears_the_truth_when_its_deadline_comes_first(
    client: GatewayClient,
    make_key: MakeKey,
    kafka_log: KafkaLog,
    ledger: LedgerView,
) -> None:
    """As soon as another wait would outlast the deadline: which limit, and when to come back."""
    grant = _room_for_one(make_key, "defer-deadline")
    first = asyncio.create_task(_chat(client, grant, delay_ms=6_000))
    await ledger.becomes_held(grant.org)
    started_s = time.monotonic()
    second = await _chat(client, grant, delay_ms=0, timeout_s=2.5)
    waited_s = time.monotonic() - started_s

    assert second.status == 429, second.body
    assert second.json["error"]["code"] == "BUDGET_EXCEEDED"
    assert int(second.headers["retry-after"]) >= 1
    assert 1.0 <= waited_s <= 2.9
    (outcome,) = _of(kafka_log, "inference.outcomes.v1", second.request_id, 1)
    assert outcome.value["denial"]["limit_id"] == "org:budget:total"
    accepted, waited = outcome.value["parents"]
    assert accepted["topic"] == "inference.requests.v1"
    assert waited["topic"].startswith("inference.deferred-")
    audits = _of(kafka_log, "audit.router", second.request_id, 2)
    assert {audit.value["action"] for audit in audits} == {"deferred", "refused"}
    assert (await first).status == 200


async def test_a_spent_budget_is_not_waited_for(
    client: GatewayClient, make_key: MakeKey, kafka_log: KafkaLog
) -> None:
    """It cannot come back by itself: 402 at once, also under defer."""
    grant = make_key("defer-spent", _budget("0.000000001"))
    reply = await client.chat(grant.key, "hello")

    assert (reply.status, reply.headers["x-should-retry"]) == (402, "false")
    (audit,) = _of(kafka_log, "audit.router", reply.request_id, 1)
    assert (audit.value["audit_id"], audit.key) == (f"{reply.request_id}:refused", grant.org)
    assert audit.value["actor"] == grant.key_id


async def test_a_rate_is_waited_for(
    client: GatewayClient, make_key: MakeKey, oracle: Oracle
) -> None:
    """Five a second and no burst: eight posts at once all pass, none before its turn."""
    grant = make_key("defer-rate", {"requests_per_s": 5, "burst": 1, "on_limit": "defer"})
    started_s = time.monotonic()
    replies = await asyncio.gather(*(client.chat(grant.key, f"n {n}") for n in range(8)))
    elapsed_s = time.monotonic() - started_s

    assert {reply.status for reply in replies} == {200}
    assert elapsed_s >= 7 / 5
    assert len(oracle.calls_of(reply.request_id for reply in replies)) == 8
