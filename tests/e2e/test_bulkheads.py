"""What hangs or lasts long costs its own requests, and nobody else's: on the same backends, in the same
partition of the log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import httpx
import pytest

from schemas.partitions import partition_of
from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.gateway_client import GatewayClient, Reply, steer
from tests.support.harness.grants import MakeKey
from tests.support.harness.ledger_view import LedgerView
from tests.support.harness.oracle import Oracle

pytestmark = pytest.mark.timeout(150, func_only=True)
PARTITIONS = 4
HANGING_MODEL = "fake-hang"
HANGING_REQUESTS = 600
HANG_DEADLINE_S = 15
QUICK_MAX_S = 2.5
"""A quick call's longest time on a machine that does everything at once; a queue behind what hangs takes
until the deadline of that."""
LONG_S = 25


def _name_beside(org: str) -> str:
    """An organization in the same partition of the requests topic."""
    home = partition_of(org.encode(), PARTITIONS)
    names = (f"quiet-{number}" for number in range(1_000))
    return next(name for name in names if partition_of(name.encode(), PARTITIONS) == home)


async def _quick(client: GatewayClient, key: str, seconds: float) -> list[tuple[Reply, float]]:
    """Quick calls, twenty a second; each with how long it took."""

    async def one() -> tuple[Reply, float]:
        started_s = time.monotonic()
        return await client.chat(key, "hello"), time.monotonic() - started_s

    calls: list[asyncio.Task[tuple[Reply, float]]] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        calls.append(asyncio.create_task(one()))
        await asyncio.sleep(0.05)
    return await asyncio.gather(*calls)


async def test_a_model_that_hangs_costs_only_whoever_calls_it(
    crowd: GatewayClient, make_key: MakeKey, ledger: LedgerView
) -> None:
    """600 calls hang at the very backends that answer the neighbour's, who shares the partition."""
    loud = make_key("bulkhead-loud")
    quiet = make_key(_name_beside(loud.org))
    await _quick(crowd, quiet.key, 1.0)

    async def hang() -> Reply:
        body = {"model": HANGING_MODEL, "messages": [{"role": "user", "content": "x"}]}
        headers = {"X-Request-Timeout": str(HANG_DEADLINE_S)}
        return await crowd.post("/chat/completions", loud.key, body, headers)

    hanging = [asyncio.create_task(hang()) for _ in range(HANGING_REQUESTS)]
    await asyncio.sleep(2.0)
    quick = await _quick(crowd, quiet.key, 10.0)
    replies = await asyncio.gather(*hanging)

    assert Counter(reply.status for reply, _ in quick) == {200: len(quick)}
    assert max(took_s for _, took_s in quick) < QUICK_MAX_S
    assert {reply.status for reply in replies} <= {429, 503, 504}
    assert all(reply.json["error"]["code"] for reply in replies)
    assert not any((await ledger.becomes_free(loud.org)).values())


async def test_a_long_call_costs_nobody_anything(
    crowd: GatewayClient, make_key: MakeKey, oracle: Oracle
) -> None:
    """25 s beside quick ones of the same model: all succeed, and so does it, at its first attempt."""
    slow, quiet = make_key("bulkhead-slow"), make_key("bulkhead-quick")
    headers = {"X-Request-Timeout": "120"}
    content = steer(delay_ms=LONG_S * 1000, chunks=1)
    body = {"model": "fake-1", "messages": [{"role": "user", "content": content}]}
    long = asyncio.create_task(crowd.post("/chat/completions", slow.key, body, headers))
    quick = await _quick(crowd, quiet.key, LONG_S)
    reply = await long

    assert reply.status == 200, reply.body
    assert len(oracle.calls_of([reply.request_id])) == 1
    assert Counter(each.status for each, _ in quick) == {200: len(quick)}
    assert max(took_s for _, took_s in quick) < QUICK_MAX_S


@pytest.fixture
def narrow_model(admin: httpx.Client, backends: list[RunningBackend]) -> str:
    """A model whose backend takes one call at once from each dispatcher."""
    backend = {"url": backends[0].url, "max_concurrency": 1}
    admin.put("/backends/narrow", json=backend).raise_for_status()
    model = {"backends": [{"backend": "narrow", "upstream_model": "fake-1"}]}
    admin.put("/models/narrow-1", json=model).raise_for_status()
    return "narrow-1"


async def test_whoever_does_not_fit_is_told_when_to_come_back(
    crowd: GatewayClient, make_key: MakeKey, narrow_model: str
) -> None:
    """Two slots and half a second a call: of 60 those that would wait too long get 503 with a hint."""
    grant = make_key("bulkhead-narrow")

    async def call() -> Reply:
        return await crowd.chat(grant.key, steer(delay_ms=500, chunks=1), model=narrow_model)

    replies = await asyncio.gather(*(call() for _ in range(60)))
    statuses = Counter(reply.status for reply in replies)
    refused = [reply for reply in replies if reply.status != 200]

    assert statuses[200] >= 10
    assert statuses == {200: statuses[200], 503: len(refused)}
    assert {reply.json["error"]["code"] for reply in refused} == {"server_is_overloaded"}
    assert all(int(reply.headers["retry-after-ms"]) >= 100 for reply in refused)
