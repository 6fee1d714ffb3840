"""A ledger that is full, and a budget that is raised while it refuses."""

from __future__ import annotations

import asyncio
from time import perf_counter

import redis.asyncio as redis

from deploy.bench.connection import OK
from deploy.bench.requests import prepare_mix
from tests.load.offer import offer
from tests.load.scenarios.neighbours import call_for, line
from tests.support.harness.scene import HEALTHY_MODEL, UNLIMITED, Scene

_RATE_PER_S = 50.0
_FILL_BYTES = 1 << 20
_FULL_FOR_S = 15
_STUFFING = "stuffing:{}"
_BACKSTOP_S = 120


async def budget_raised(scene: Scene) -> list[str]:
    """402 at 50 requests per second; the first 200 after the budget was raised."""
    poor = {**UNLIMITED, "budgets": [{"usd": "0.000001", "period": "month"}]}
    tenant = await scene.tenant("poor", poor)
    requests = prepare_mix(scene.url, tenant.key, HEALTHY_MODEL, 0.0)
    raised_s = 0.0

    async def raise_budget() -> None:
        nonlocal raised_s
        await asyncio.sleep(5.0)
        rich = {**UNLIMITED, "budgets": [{"usd": "1000", "period": "month"}]}
        answer = await scene.admin.put(f"/orgs/{tenant.org}", json={"limits": rich})
        raised_s = perf_counter()
        answer.raise_for_status()

    raising = asyncio.create_task(raise_budget())
    offered = await offer([scene.url], requests, _RATE_PER_S, 12.0)
    await raising
    ends = sorted(a.planned_s + a.latency_s for a in offered.good)
    first = f"{ends[0] - raised_s:.2f} s" if ends else "never"
    return [line("402, then a budget", offered), f"first 200 after the raise: {first}"]


async def full_ledger(scene: Scene) -> list[str]:
    """The ledger filled to its maxmemory under load, with calls running; then what filled it goes."""
    tenant = await scene.tenant("full")
    requests = prepare_mix(scene.url, tenant.key, HEALTHY_MODEL, 0.25)
    store = redis.Redis(port=scene.stack.ports["ledger"])
    limit = int((await store.config_get("maxmemory"))["maxmemory"] or 0)
    if not limit:
        await store.aclose()
        return ["the ledger has no maxmemory"]
    running = [
        asyncio.create_task(call_for(scene, tenant.key, HEALTHY_MODEL, 8.0, 60)) for _ in range(20)
    ]
    await asyncio.sleep(2.0)
    load = asyncio.create_task(offer([scene.url], requests, _RATE_PER_S, 45.0))
    await asyncio.sleep(3.0)
    began_s = perf_counter()
    stuffed = await _stuff(store)
    full_s = perf_counter()
    emptying = asyncio.create_task(_empty(store, stuffed))
    closed = await asyncio.gather(*running)
    held = await _held(store)
    offered = await load
    await emptying
    during = [a for a in offered.answers if full_s < a.planned_s < full_s + _FULL_FOR_S - 3]
    kinds = {k: sum(a.outcome == k for a in during) for k in sorted({a.outcome for a in during})}
    back = [a.planned_s for a in offered.answers if a.outcome == OK and a.planned_s > full_s + 3]
    again = f"{min(back) - full_s:.1f} s after it was full" if back else "never"
    await store.aclose()
    return [
        f"{limit >> 20} MiB filled with {stuffed} values in {full_s - began_s:.1f} s",
        f"running calls closed: {closed.count(200)} of {len(closed)} with 200",
        f"reserved by them afterwards: {held} nano-USD",
        f"answers while full: {kinds}",
        f"first 200 again: {again} (what filled it was gone after {_FULL_FOR_S} s)",
        f"held at the end: {await _held_at(scene)}",
        f"ledger: difference {(await scene.difference())['difference']}",
    ]


async def _empty(store: redis.Redis, stuffed: int) -> None:
    """What filled it goes; among very many keys the store itself is slow to find what has expired."""
    await asyncio.sleep(_FULL_FOR_S)
    for number in range(stuffed):
        await store.unlink(_STUFFING.format(number))


async def _stuff(store: redis.Redis) -> int:
    """Values until the store refuses more; their number."""
    number = 0
    while True:
        try:
            await store.set(_STUFFING.format(number), b"x" * _FILL_BYTES, ex=_BACKSTOP_S)
        except redis.ResponseError:
            break
        number += 1
    while True:
        try:
            await store.set(_STUFFING.format(number), b"x" * 1024, ex=_BACKSTOP_S)
        except redis.ResponseError:
            return number
        number += 1


async def _held(store: redis.Redis) -> int:
    total = 0
    async for key in store.scan_iter("{full}*b:*nano_usd*", count=1_000):
        total += int(await store.hget(key, "reserved") or 0)
    return total


async def _held_at(scene: Scene) -> int:
    store = redis.Redis(port=scene.stack.ports["ledger"])
    try:
        return await _held(store)
    finally:
        await store.aclose()
