"""A budget is never exceeded, and its refusal is exact."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from tests.support.fakes.call_log import most_at_once
from tests.support.harness.gateway_client import GatewayClient, Reply, steer
from tests.support.harness.grants import MakeKey
from tests.support.harness.oracle import OUTPUT_NANO_USD_PER_TOKEN, Oracle, cost_nano_usd

pytestmark = pytest.mark.timeout(60, func_only=True)
NANO = Decimal("1e-9")
LIMIT_FIELDS = {"error", "code", "limit_type", "current_usage", "limit", "retry_after"}


def _budget(usd: str) -> dict[str, object]:
    # A total never rolls over, so the test means the same at midnight.
    return {"budgets": [{"usd": usd, "period": "total"}], "on_limit": "reject"}


async def test_requests_pass_until_the_budget_is_spent(
    client: GatewayClient, make_key: MakeKey, oracle: Oracle
) -> None:
    """The refusal says exactly what was spent, as the backends' logs have it."""
    grant = make_key("budget-org", _budget("0.002"))
    replies: list[Reply] = []
    while len(replies) < 100 and (not replies or replies[-1].status == 200):
        words = steer(output_tokens=100)
        replies.append(await client.infer(grant.key, words, parameters={"max_tokens": 100}))
    *passed, refused = replies

    assert len(passed) >= 5
    calls = oracle.calls_of(reply.request_id for reply in replies)
    assert len(calls) == len(passed)
    spent_usd = sum(cost_nano_usd(call) for call in calls) * NANO
    assert spent_usd <= Decimal("0.002")
    assert refused.status == 402, refused.body
    assert refused.json.keys() == LIMIT_FIELDS
    assert (refused.json["code"], refused.json["limit_type"]) == ("BUDGET_EXCEEDED", "budget")
    assert refused.json["current_usage"] == spent_usd
    assert refused.json["limit"] == Decimal("0.002")
    assert refused.json["retry_after"] is None
    assert refused.headers["x-should-retry"] == "false"


async def test_spent_budget_stays_spent_for_streams_and_chat(
    client: GatewayClient, make_key: MakeKey, oracle: Oracle
) -> None:
    """Nothing fits a budget of a nano-dollar; a stream's refusal is a real status too."""
    grant = make_key("tiny-budget-org", _budget("0.000000001"))
    plain = await client.chat(grant.key, "hello")
    stream = await client.chat(grant.key, "hello", stream=True)

    for reply in (plain, stream):
        assert reply.status == 402, reply.body
        assert reply.json["error"]["code"] == "BUDGET_EXCEEDED"
        assert reply.headers["x-should-retry"] == "false"
    assert oracle.calls_of([plain.request_id, stream.request_id]) == ()


async def test_concurrent_posts_never_hold_more_than_the_budget(
    client: GatewayClient, make_key: MakeKey, oracle: Oracle
) -> None:
    """Of 50 posts at once only the 10 whose worst cases fit run together, and none overspends."""
    tokens, fitting = 1_000, 10
    # Room for ten worst cases: their output, and a share for their input that is not filled.
    budget_nano_usd = fitting * (tokens * OUTPUT_NANO_USD_PER_TOKEN + 200_000)
    grant = make_key("race-org", _budget(str(budget_nano_usd * NANO)))
    words = steer(output_tokens=tokens, delay_ms=1_500)
    replies = await asyncio.gather(
        *(client.chat(grant.key, words, max_tokens=tokens) for _ in range(50))
    )

    calls = oracle.calls_of(reply.request_id for reply in replies)
    passed = [reply for reply in replies if reply.status == 200]
    assert len(calls) == len(passed)
    assert len(passed) >= fitting
    assert most_at_once(calls) == fitting
    assert sum(cost_nano_usd(call) for call in calls) <= budget_nano_usd
    refused = [reply for reply in replies if reply.status != 200]
    assert {reply.status for reply in refused} <= {402, 429}
    assert {reply.json["error"]["code"] for reply in refused} == {"BUDGET_EXCEEDED"}
    # A refusal that will pass once a hold returns says when; a spent budget says never.
    assert all("retry-after" in reply.headers for reply in refused if reply.status == 429)
