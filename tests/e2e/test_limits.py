"""Limits hold when hundreds of requests race: by the backends' logs, and by the ledger afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import httpx
import pytest
import pytest_asyncio

from tests.support.fakes.call_log import Call, most_at_once
from tests.support.harness.gateway_client import GatewayClient, Reply, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.ledger_view import LedgerView
from tests.support.harness.oracle import Oracle, cost_nano_usd

pytestmark = pytest.mark.timeout(120, func_only=True)
NANO = Decimal("1e-9")
POSTS = 500
FITTING = 100
TOKENS = 1_000
SLOW = steer(output_tokens=TOKENS, delay_ms=3_000)
DAY_S = 86_400
MIDNIGHT_MARGIN_S = 60


@pytest_asyncio.fixture
async def worst_case(
    client: GatewayClient, make_key: MakeKey, ledger: LedgerView
) -> dict[str, int]:
    """What one of the slow requests puts on hold, by unit: read while one runs."""
    grant = make_key("limits-probe", {"budgets": [{"usd": "1000", "period": "total"}]})
    running = asyncio.create_task(client.chat(grant.key, SLOW, max_tokens=TOKENS))
    held = await ledger.becomes_held(grant.org)
    assert (await running).status == 200
    assert held["nano_usd"] > 0
    return held


async def _race(crowd: GatewayClient, grant: Grant, words: str, posts: int = POSTS) -> list[Reply]:
    posted = (crowd.chat(grant.key, words, max_tokens=TOKENS) for _ in range(posts))
    return await asyncio.gather(*posted)


def _calls(oracle: Oracle, replies: Sequence[Reply]) -> list[Call]:
    """The calls of those that passed; nobody else was called."""
    calls = oracle.calls_of(reply.request_id for reply in replies)
    assert len(calls) == sum(reply.status == 200 for reply in replies)
    return list(calls)


def _assert_refused(replies: Sequence[Reply], code: str, statuses: set[int]) -> None:
    """Everybody else was refused by this limit; who may come back is told when."""
    refused = [reply for reply in replies if reply.status != 200]
    assert {reply.status for reply in refused} <= statuses, Counter(r.status for r in refused)
    assert {reply.json["error"]["code"] for reply in refused} == {code}
    for reply in refused:
        assert ("retry-after" in reply.headers) == (reply.status == 429)


async def _assert_books_are_closed(ledger: LedgerView, admin: httpx.Client, org: str) -> None:
    held = await ledger.becomes_free(org)
    assert not any(held.values()), held
    verdict = await asyncio.to_thread(admin.get, "/ledger/verify", params={"deadline_s": 20})
    assert verdict.raise_for_status().json()["difference"] == 0, verdict.text


async def test_a_budget_holds_among_five_hundred(
    crowd: GatewayClient,
    make_key: MakeKey,
    oracle: Oracle,
    ledger: LedgerView,
    admin: httpx.Client,
    worst_case: dict[str, int],
) -> None:
    """It fits 100 worst cases: that many run, and what they cost stays below it."""
    budget = FITTING * worst_case["nano_usd"] + worst_case["nano_usd"] // 2
    limits = {"budgets": [{"usd": str(budget * NANO), "period": "total"}], "on_limit": "reject"}
    grant = make_key("limits-budget", limits)
    replies = await _race(crowd, grant, SLOW)

    calls = _calls(oracle, replies)
    assert len(calls) >= FITTING
    assert most_at_once(calls) <= FITTING
    assert sum(map(cost_nano_usd, calls)) <= budget
    _assert_refused(replies, "BUDGET_EXCEEDED", {402, 429})
    await _assert_books_are_closed(ledger, admin, grant.org)


async def test_tokens_per_minute_hold_among_five_hundred(
    crowd: GatewayClient,
    make_key: MakeKey,
    oracle: Oracle,
    ledger: LedgerView,
    admin: httpx.Client,
    worst_case: dict[str, int],
) -> None:
    """The bucket and its refill are all that the backends ever work off."""
    per_min = FITTING * worst_case["tokens"]
    grant = make_key("limits-tokens", {"tokens_per_min": per_min, "on_limit": "reject"})
    started_s = time.monotonic()
    replies = await _race(crowd, grant, SLOW)
    elapsed_s = time.monotonic() - started_s

    calls = _calls(oracle, replies)
    assert len(calls) >= FITTING
    worked_off = sum(call.prompt_tokens + call.completion_tokens for call in calls)
    assert worked_off <= per_min * (1 + elapsed_s / 60)
    _assert_refused(replies, "RATE_LIMIT_EXCEEDED", {429})
    await _assert_books_are_closed(ledger, admin, grant.org)


async def test_tokens_that_were_not_used_return_to_the_bucket(
    client: GatewayClient, make_key: MakeKey, worst_case: dict[str, int]
) -> None:
    """A bucket of two worst cases serves many small answers, one after the other."""
    limits = {"tokens_per_min": 2 * worst_case["tokens"], "on_limit": "reject"}
    grant = make_key("limits-refund", limits)
    ask = steer(output_tokens=5)
    replies = [await client.chat(grant.key, ask, max_tokens=TOKENS) for _ in range(8)]

    assert [reply.status for reply in replies] == [200] * 8


async def test_concurrency_holds_among_five_hundred(
    crowd: GatewayClient, make_key: MakeKey, oracle: Oracle, ledger: LedgerView, admin: httpx.Client
) -> None:
    """No more run at once than may, and the places are free again afterwards."""
    grant = make_key("limits-concurrency", {"concurrency": 10, "on_limit": "reject"})
    replies = await _race(crowd, grant, steer(output_tokens=5, delay_ms=1_000))

    calls = _calls(oracle, replies)
    assert len(calls) >= 10
    assert most_at_once(calls) == 10
    _assert_refused(replies, "RATE_LIMIT_EXCEEDED", {429})
    await _assert_books_are_closed(ledger, admin, grant.org)


async def test_a_daily_quota_is_met_exactly_among_five_hundred(
    crowd: GatewayClient, make_key: MakeKey, oracle: Oracle, ledger: LedgerView, admin: httpx.Client
) -> None:
    """A quota of 100 requests lets 100 pass."""
    if (left_s := DAY_S - time.time() % DAY_S) < MIDNIGHT_MARGIN_S:
        await asyncio.sleep(left_s)
    quota = {"amount": FITTING, "unit": "requests", "period": "day"}
    grant = make_key("limits-quota", {"quotas": [quota], "on_limit": "reject"})
    replies = await _race(crowd, grant, steer(output_tokens=5))

    assert len(_calls(oracle, replies)) == FITTING
    _assert_refused(replies, "QUOTA_EXCEEDED", {402, 429})
    after = await crowd.chat(grant.key, "once more")
    assert (after.status, after.headers["x-should-retry"]) == (402, "false")
    await _assert_books_are_closed(ledger, admin, grant.org)


async def test_a_bucket_admits_its_burst_and_its_refill_among_three_hundred(
    crowd: GatewayClient, make_key: MakeKey, oracle: Oracle
) -> None:
    """5/s, burst 20: not one more than the time allows, and who waits as told passes."""
    rate_per_s, burst = 5, 20
    limits = {"requests_per_s": rate_per_s, "burst": burst, "on_limit": "reject"}
    grant = make_key("limits-bucket", limits)
    started_s = time.monotonic()
    replies = await asyncio.gather(*(crowd.infer(grant.key, f"n {n}") for n in range(300)))
    elapsed_s = time.monotonic() - started_s

    assert burst <= len(_calls(oracle, replies)) <= burst + rate_per_s * elapsed_s
    refused = [reply for reply in replies if reply.status != 200]
    for reply in refused:
        told_s, told_ms = (int(reply.headers[f"retry-after{unit}"]) for unit in ("", "-ms"))
        body = dict(reply.json)
        assert reply.status == 429
        assert 0 <= body.pop("current_usage") <= burst
        assert isinstance(body.pop("error"), str)
        assert body == {
            "code": "RATE_LIMIT_EXCEEDED",
            "limit_type": "rate_limit",
            "limit": rate_per_s,
            "retry_after": told_s,
        }
        assert 0 < told_ms <= told_s * 1_000
    last = await crowd.infer(grant.key, "is it full?")
    while last.status == 200:
        last = await crowd.infer(grant.key, "is it full?")
    await asyncio.sleep(int(last.headers["retry-after"]))

    assert (await crowd.infer(grant.key, "as told")).status == 200
