"""How long after its last byte, or after the limit that it crosses, each hostile answer reaches its client."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import aiohttp

from tests.support.fakes.hostile_backend import HostileBackend
from tests.support.fakes.shapes.table import SHAPES
from tests.support.fakes.shapes.wire import SILENCE_S, Shape
from tests.support.harness.scene import Scene

_GOAL_S = 0.1
_DEADLINE_S = 30
_MODEL = {
    "input_usd_per_mtok": "0.50",
    "output_usd_per_mtok": "1.50",
    "default_max_output_tokens": 64,
}


async def hostile_answers(scene: Scene) -> list[str]:
    """Every shape once, one after the other, over the whole path; by wall clock."""
    tenant, server = await scene.tenant("hostile"), HostileBackend("hostile")
    late_s: dict[str, dict[str, float]] = defaultdict(dict)
    pids = scene.pids()
    async with server.running() as url, aiohttp.ClientSession() as session:
        await _serve(scene, url)
        for model, shape in SHAPES.items():
            late_s[shape.family][model] = await _late_s(
                session, scene.url, tenant.key, server, model, shape
            )
    lines = [_line(family, found) for family, found in late_s.items()]
    verdict = await scene.difference()
    restarted = "none" if scene.pids() == pids else "SOME"
    return [*lines, f"restarts: {restarted}, difference {verdict['difference']}"]


def _line(family: str, late_s: dict[str, float]) -> str:
    in_order = sorted(late_s.values())
    beyond = {m: f"{s * 1000:.0f} ms" for m, s in late_s.items() if s > _GOAL_S}
    return (
        f"{family:<8} {len(in_order):3} shapes  p50 {in_order[len(in_order) // 2] * 1000:.0f}  "
        f"max {in_order[-1] * 1000:.0f} ms  above {_GOAL_S * 1000:.0f} ms: {beyond or 'none'}"
    )


async def _serve(scene: Scene, url: str) -> None:
    """A backend and a model for each shape, so that no breaker spares another shape."""
    for model in SHAPES:
        name = f"h-{model.removeprefix('fake-')}"
        backend = {"url": url, "timeout_s": SILENCE_S}
        (await scene.admin.put(f"/backends/{name}", json=backend)).raise_for_status()
        route = {"backends": [{"backend": name}], **_MODEL}
        (await scene.admin.put(f"/models/{model}", json=route)).raise_for_status()


async def _late_s(
    session: aiohttp.ClientSession,
    url: str,
    key: str,
    server: HostileBackend,
    model: str,
    shape: Shape,
) -> float:
    """From the last byte, or from the limit, to the end of the client's answer."""
    loop = asyncio.get_running_loop()
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": shape.stream,
        "max_tokens": 64,
    }
    headers = {"Authorization": f"Bearer {key}", "X-Request-Timeout": str(_DEADLINE_S)}
    timeout = aiohttp.ClientTimeout(total=_DEADLINE_S + 5)
    began_s = loop.time()
    try:
        async with session.post(
            f"{url}/chat/completions", json=body, headers=headers, timeout=timeout
        ) as answer:
            await answer.read()
    except aiohttp.ClientError:
        pass  # A stream that is torn; when it was is what counts.
    ended_s = loop.time()
    wire = server.wires.get(model)
    last_byte_s = wire.last_byte_at_s if wire else began_s
    return ended_s - (began_s + shape.limit_s if shape.limit_s else max(last_byte_s, began_s))
