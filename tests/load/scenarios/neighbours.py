"""What long calls, a hanging backend and a loud organization do to their neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import median

import aiohttp

from deploy.bench.connection import PreparedRequest
from deploy.bench.requests import prepare_mix
from tests.load.offer import Offered, offer, ratio_of_pairs
from tests.support.harness.gateway_client import steer
from tests.support.harness.scene import (
    HANGING_MODEL,
    HEALTHY_MODEL,
    NARROW_MODEL,
    Scene,
    neighbour_names,
)

PAIRS = 3
_WINDOW_S = 60.0
_SHORT_WINDOW_S = 30.0
_RATE_PER_S = 150.0
_LONGEST_S = 590
_HANGING_REQUESTS = 600
_HANG_DEADLINE_S = 35
_ARRIVED_AFTER_S = 6.0
"""By then all 600 have come; what is measured is what hangs, not the burst of arrivals."""
_HANG_WINDOW_S = 20.0
_QUIET_RATE_PER_S = 25.0
_LOUD_SHARES = 10


def p99_ms(offered: Offered) -> float:
    """The 99th percentile of the good answers; 0 when there is none."""
    return offered.spread.p99_ms if offered.spread else 0.0


def line(name: str, offered: Offered) -> str:
    """One window in one line."""
    spread = offered.spread
    shown = (
        f"p50 {spread.p50_ms:.0f}  p99 {spread.p99_ms:.0f}  max {spread.max_ms:.0f} ms"
        if spread
        else "no good answer"
    )
    return (
        f"{name:<34} {offered.goodput_per_s:7.1f}/s  {shown}  "
        f"longest gap {offered.longest_gap_s():.2f} s  not 200: {offered.failures or 'none'}"
    )


async def call_for(scene: Scene, key: str, model: str, seconds: float, timeout_s: float) -> int:
    """One call that takes so long; its status."""
    content = steer(delay_ms=int(seconds * 1000), chunks=1)
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    headers = {"Authorization": f"Bearer {key}", "X-Request-Timeout": str(int(timeout_s))}
    timeout = aiohttp.ClientTimeout(total=timeout_s + 10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{scene.url}/chat/completions", json=body, headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


async def long_call(scene: Scene) -> list[str]:
    """One call of 60 s beside 150 requests per second, in interleaved pairs of windows."""
    caller, others = await scene.tenant("long-caller"), await scene.tenant("others")
    requests = prepare_mix(scene.url, others.key, HEALTHY_MODEL, 0.0)
    lines, pairs = [], []
    for number in range(1, PAIRS + 1):
        without = await offer([scene.url], requests, _RATE_PER_S, _WINDOW_S)
        long = asyncio.create_task(
            call_for(scene, caller.key, HEALTHY_MODEL, _WINDOW_S, 2 * _WINDOW_S)
        )
        with_it = await offer([scene.url], requests, _RATE_PER_S, _WINDOW_S)
        lines += [
            line(f"{number} without", without),
            line(f"{number} beside a call of 60 s", with_it),
        ]
        lines.append(f"  the long call: {await long}")
        pairs.append((p99_ms(without), p99_ms(with_it)))
    return [*lines, f"p99 with / without: {ratio_of_pairs(pairs)}"]


async def very_long_call(scene: Scene) -> list[str]:
    """One call that takes nearly the longest deadline there is, beside 150 requests per second.

    It goes on while later scenarios run, and its end is reported last.
    """
    caller, others = await scene.tenant("long-caller"), await scene.tenant("others")
    requests = prepare_mix(scene.url, others.key, HEALTHY_MODEL, 0.0)
    without = await offer([scene.url], requests, _RATE_PER_S, _SHORT_WINDOW_S)

    async def call() -> str:
        status = await call_for(scene, caller.key, HEALTHY_MODEL, _LONGEST_S, _LONGEST_S + 10)
        return f"the call of {_LONGEST_S} s: {status}"

    scene.later.append(asyncio.create_task(call()))
    await asyncio.sleep(1.0)
    lines, pairs = [line("without", without)], []
    for number in range(1, PAIRS + 1):
        with_it = await offer([scene.url], requests, _RATE_PER_S, _SHORT_WINDOW_S)
        lines.append(line(f"{number} beside a call of {_LONGEST_S} s", with_it))
        pairs.append((p99_ms(without), p99_ms(with_it)))
    return [*lines, f"p99 with / without: {ratio_of_pairs(pairs)}"]


async def hanging_backend(scene: Scene) -> list[str]:
    """600 requests of one organization to a backend that hangs; two neighbours elsewhere."""
    loud = await scene.tenant("hang-org", {})
    names = neighbour_names(loud.org)
    quiet = [await scene.tenant(name, {}) for name in names]
    lines, pairs = [], []

    async def neighbours() -> Sequence[Offered]:
        return await asyncio.gather(
            *(
                offer(
                    [scene.url],
                    prepare_mix(scene.url, tenant.key, HEALTHY_MODEL, 0.25),
                    _QUIET_RATE_PER_S,
                    _HANG_WINDOW_S,
                )
                for tenant in quiet
            )
        )

    for number in range(1, PAIRS + 1):
        without = await neighbours()
        flood = asyncio.create_task(_flood(scene, loud.key))
        await asyncio.sleep(_ARRIVED_AFTER_S)
        with_it = await neighbours()
        for where, before, after in zip(("same partition", "other"), without, with_it, strict=True):
            lines.append(line(f"{number} {where}, without", before))
            lines.append(line(f"{number} {where}, beside 600 hanging", after))
            pairs.append((p99_ms(before), p99_ms(after)))
        lines.append(f"  the 600: {await flood}")
    return [*lines, f"p99 with / without: {ratio_of_pairs(pairs)}"]


async def _flood(scene: Scene, key: str) -> dict[str, int]:
    """600 requests as fast as the default rate takes them; statuses by count."""
    headers = {"Authorization": f"Bearer {key}", "X-Request-Timeout": str(_HANG_DEADLINE_S)}
    body = {"model": HANGING_MODEL, "messages": [{"role": "user", "content": "hang"}]}
    statuses: list[str] = []
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=_HANG_DEADLINE_S + 15)

    async def post(session: aiohttp.ClientSession, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            async with session.post(
                f"{scene.url}/chat/completions", json=body, headers=headers
            ) as answer:
                await answer.read()
                statuses.append(str(answer.status))
        except (aiohttp.ClientError, TimeoutError) as error:
            statuses.append(type(error).__name__)

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        # The default rate lets 200 through at once, then 100 a second.
        await asyncio.gather(
            *(post(session, max(0.0, (n - 200) / 100)) for n in range(_HANGING_REQUESTS))
        )
    return {status: statuses.count(status) for status in sorted(set(statuses))}


async def loud_neighbour(scene: Scene) -> list[str]:
    """Five organizations at a backend of 160 requests per second; one offers ten times its share."""
    loud = await scene.tenant("loud")
    quiet = [await scene.tenant(f"modest-{number}") for number in range(4)]
    share_per_s = 160 / 5
    lines, pairs = [], []

    def of(key: str) -> tuple[PreparedRequest, ...]:
        return prepare_mix(scene.url, key, NARROW_MODEL, 0.0)

    async def modest() -> list[Offered]:
        return await asyncio.gather(
            *(offer([scene.url], of(t.key), share_per_s * 0.75, _HANG_WINDOW_S) for t in quiet)
        )

    for number in range(1, PAIRS + 1):
        without = await modest()
        noise = asyncio.create_task(
            offer([scene.url], of(loud.key), share_per_s * _LOUD_SHARES, _HANG_WINDOW_S)
        )
        with_it = await modest()
        noisy = await noise
        before = sum(each.goodput_per_s for each in without)
        after = sum(each.goodput_per_s for each in with_it)
        lines.append(line(f"{number} one of four, without", without[0]))
        lines.append(line(f"{number} one of four, beside the loud one", with_it[0]))
        lines.append(line(f"{number} the loud one", noisy))
        pairs.append((before, after))
    worst = min(after / before for before, after in pairs)
    middle = median(after / before for before, after in pairs)
    return [*lines, f"goodput of the four, with / without: median {middle:.3f}, worst {worst:.3f}"]
