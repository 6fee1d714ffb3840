"""A backend with a known capacity, and five times as much offered."""

from __future__ import annotations

import asyncio
from time import perf_counter

from deploy.bench.connection import OK
from deploy.bench.process_cost import read_processes
from deploy.bench.requests import prepare_mix
from tests.load.offer import offer
from tests.load.scenarios.neighbours import line
from tests.support.harness.scene import NARROW_MODEL, Scene

_ORGS = 20
_OFFERED_PER_S = 800.0
_SECONDS = 60.0
_CAPACITY_PER_S = 160.0
_REFERENCE_S = 15.0
_AFTER_RATE_PER_S = 80.0
_AFTER_S = 15.0
_CALM_MS = 500.0


async def beyond_capacity(scene: Scene) -> list[str]:
    """800 requests per second of 20 organizations at 8 slots of 50 ms, for a minute; then half of it."""
    tenants = [await scene.tenant(f"crowd-{number}") for number in range(_ORGS)]
    requests = [
        request
        for group in zip(
            *(prepare_mix(scene.url, t.key, NARROW_MODEL, 0.0) for t in tenants), strict=True
        )
        for request in group
    ]
    before = {name: reading.rss_bytes for name, reading in read_processes(scene.pids()).items()}
    reference = await offer([scene.url], requests, _CAPACITY_PER_S, _REFERENCE_S)
    offered = await offer([scene.url], requests, _OFFERED_PER_S, _SECONDS)
    ended_s = perf_counter()
    peaks = read_processes(scene.pids())
    after = await offer([scene.url], requests, _AFTER_RATE_PER_S, _AFTER_S)
    slow = [a.planned_s for a in after.answers if a.outcome != OK or a.latency_s * 1000 > _CALM_MS]
    recovery_s = max((at - ended_s for at in slow), default=0.0)
    await asyncio.sleep(1.0)
    refused = offered.refusal_spread
    told = (
        f"p50 {refused.p50_ms:.0f}  p99 {refused.p99_ms:.0f}  max {refused.max_ms:.0f} ms"
        if refused
        else "none"
    )
    growth = {
        name: (peaks[name].rss_bytes - rss) / 2**20
        for name, rss in before.items()
        if name in peaks and peaks[name].rss_bytes - rss > 2**20
    }
    return [
        line("offered 160/s, as a reference", reference),
        line("offered 800/s, capacity 160/s", offered),
        f"refused: {told}",
        line("then 80/s", after),
        f"recovered after {recovery_s:.1f} s",
        "memory gained, MiB: " + ", ".join(f"{n} {mib:.0f}" for n, mib in growth.items()),
    ]
