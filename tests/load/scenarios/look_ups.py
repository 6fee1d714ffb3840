"""What one organization that looks up its requests and usage without a pause does to another's chats."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable

import aiohttp

from deploy.bench.requests import prepare_mix
from schemas.ids import uuid7
from tests.load.offer import Offered, offer
from tests.load.scenarios.neighbours import line, p99_ms
from tests.support.harness.scene import HEALTHY_MODEL, Scene, Tenant

_PAIRS = 2
_WINDOW_S = 10.0
_RATE_PER_S = 25.0
_OWN_RATE_PER_S = 60.0
"""Of the loud one before, so that its log has something to be read."""
_CONNECTIONS = 32
_TOO_MANY = 429
_IMPATIENCE_S = 0.1
"""Who is told to come back in a second comes back ten times sooner."""
_HOURS = 167

Path = Callable[[], str]


async def look_ups(scene: Scene) -> list[str]:
    """Of ids that never were, of one request's records, of a week by hours: 32 connections, ten times as impatient as they are
    told to be, and at last with no patience at all. What as many of the cheapest answers do, a list of models, stands before them."""
    loud, quiet = await scene.tenant("asks"), await scene.tenant("asks-nothing")
    own = prepare_mix(scene.url, loud.key, HEALTHY_MODEL, 0.0)
    await offer([scene.url], own, _OWN_RATE_PER_S, _WINDOW_S)
    request_id = await _chat(scene, loud)
    since_s = int(time.time()) - _HOURS * 3_600
    kinds: dict[str, tuple[Path, float]] = {
        "models": (lambda: "/models", _IMPATIENCE_S),
        "ids that never were": (lambda: f"/requests/{_guess()}", _IMPATIENCE_S),
        "records of one request": (lambda: f"/requests/{request_id}/events", _IMPATIENCE_S),
        "usage of a week": (
            lambda: f"/usage?bucket_width=1h&limit=168&group_by=model,key_id&start_time={since_s}",
            _IMPATIENCE_S,
        ),
        "models without a pause": (lambda: "/models", 0.0),
        "ids without a pause": (lambda: f"/requests/{_guess()}", 0.0),
    }
    lines = []
    for name, (path, pause_s) in kinds.items():
        for number in range(1, _PAIRS + 1):
            alone = await _chats(scene, quiet)
            seen: Counter[int] = Counter()
            noise = asyncio.create_task(_ask(scene, loud, path, pause_s, seen))
            beside = await _chats(scene, quiet)
            await noise
            ratio = p99_ms(beside) / max(0.001, p99_ms(alone))
            lines += [
                line(f"{name} {number}, alone", alone),
                line(f"{name} {number}, beside", beside),
                f"  p99 beside / alone {ratio:.2f}; the loud one heard {dict(seen)}",
            ]
    return lines


async def _chats(scene: Scene, tenant: Tenant) -> Offered:
    requests = prepare_mix(scene.url, tenant.key, HEALTHY_MODEL, 0.0)
    return await offer([scene.url], requests, _RATE_PER_S, _WINDOW_S)


async def _ask(
    scene: Scene, tenant: Tenant, path: Path, pause_s: float, seen: Counter[int]
) -> None:
    """Ask until the window is over, again as soon as there is an answer, or so long after a refusal or a cheap one."""
    until_s = time.monotonic() + _WINDOW_S
    headers = {"Authorization": f"Bearer {tenant.key}"}

    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask() -> None:
            while time.monotonic() < until_s:
                async with session.get(f"{scene.url}{path()}") as answer:
                    await answer.read()
                    seen[answer.status] += 1
                if answer.status == _TOO_MANY or path() == "/models":
                    await asyncio.sleep(pause_s)

        await asyncio.gather(*(ask() for _ in range(_CONNECTIONS)))


async def _chat(scene: Scene, tenant: Tenant) -> str:
    """A request that was answered, and booked by now."""
    headers = {"Authorization": f"Bearer {tenant.key}"}
    body = {"model": HEALTHY_MODEL, "messages": [{"role": "user", "content": "hi"}]}
    url = f"{scene.url}/chat/completions"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=body) as answer,
    ):
        request_id = answer.headers["x-request-id"]
    await asyncio.sleep(2.0)
    return request_id


def _guess() -> str:
    return uuid7(time.time_ns() // 1_000_000 - 10_000, os.urandom(10))
