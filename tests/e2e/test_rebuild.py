"""A ledger that loses everything under load is made again from the log, by itself, and nobody's budget is exceeded.

The oracle is the backends' own log. Organizations stand in every shard.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from decimal import Decimal

import pytest
import redis

from schemas.ledger.keys import META, of_shard
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import GatewayClient, Reply, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.ledger_view import STACK_SHARDS, key_of
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(150, func_only=True)
_BUDGET_USD = Decimal("0.012")
_NANO = Decimal("1e-9")
_ORGS = 8
_LOST_AFTER_S = 2.0
_READY_WITHIN_S = 15.0
_WHOLE_WITHIN_S = 45.0
_BOOKED_WITHIN_S = 20.0


def _grants(make_key: MakeKey) -> list[Grant]:
    """Two organizations in each shard, with a budget that is spent within seconds."""
    found: Counter[int] = Counter()
    grants: list[Grant] = []
    number = 0
    while len(grants) < _ORGS:
        org, number = f"rebuilt-{number}", number + 1
        shard = STACK_SHARDS.of(org)
        if found[shard] < _ORGS // STACK_SHARDS.count:
            found[shard] += 1
            limits = {"budgets": [{"usd": str(_BUDGET_USD), "period": "total"}]}
            grants.append(make_key(org, limits | {"on_limit": "reject"}))
    return grants


async def _spend(client: GatewayClient, grant: Grant, replies: list[Reply]) -> None:
    """Ask until the budget is spent; what is told to come later comes later."""
    words = steer(output_tokens=100, delay_ms=50)
    while not replies or replies[-1].status != 402:
        replies.append(await client.chat(grant.key, words, max_tokens=100))
        if replies[-1].status in (429, 503):
            await asyncio.sleep(0.2)


def _is(store: redis.Redis, field: str) -> bool:
    metas = [store.hget(of_shard(shard, META), field) for shard in STACK_SHARDS]
    return all(value == b"1" for value in metas)


async def _until(store: redis.Redis, field: str, within_s: float) -> float:
    began_s = time.monotonic()
    while not await asyncio.to_thread(_is, store, field):
        assert time.monotonic() - began_s < within_s, f"{field} is not 1 everywhere"
        await asyncio.sleep(0.05)
    return time.monotonic() - began_s


def _settled(store: redis.Redis, org: str, spent: int) -> tuple[int, int]:
    """Total of the log and balance, once they are what was spent, or as they are at last."""
    until_s = time.monotonic() + _BOOKED_WITHIN_S
    while True:
        total, balance = (
            int(store.hget(key_of(org, f"{kind}:org/nano_usd:total"), "settled") or 0)
            for kind in ("t", "b")
        )
        if total == balance == spent or time.monotonic() > until_s:
            return total, balance
        time.sleep(0.1)


async def test_an_emptied_ledger_is_rebuilt_under_load(
    client: GatewayClient, stack: RunningStack, make_key: MakeKey, oracle: Oracle
) -> None:
    """FLUSHALL while every organization spends: it goes on within seconds, each stops at its budget, and
    the totals are those of the backends' log."""
    grants = _grants(make_key)
    replies: list[list[Reply]] = [[] for _ in grants]
    spending = [
        asyncio.create_task(_spend(client, grant, told))
        for grant, told in zip(grants, replies, strict=True)
    ]
    await asyncio.sleep(_LOST_AFTER_S)
    with open_foreign(stack.ledger_url) as store:
        await asyncio.to_thread(store.flushall)
        await _until(store, "ready", _READY_WITHIN_S)
        await asyncio.gather(*spending)
        await _until(store, "complete", _WHOLE_WITHIN_S)
        for grant, told in zip(grants, replies, strict=True):
            statuses = Counter(reply.status for reply in told)
            assert set(statuses) <= {200, 402, 429, 503}, statuses
            calls = oracle.calls_of(reply.request_id for reply in told)
            spent = sum(map(cost_nano_usd, calls))
            assert spent * _NANO <= _BUDGET_USD, statuses
            # Refused because another call did not fit, and not because of what was forgotten.
            assert spent * _NANO >= _BUDGET_USD * Decimal("0.9"), statuses
            settled = await asyncio.to_thread(_settled, store, grant.org, spent)
            assert settled == (spent, spent), statuses
