"""Each process, store, broker and backend stopped and hung in turn: what health says, and when."""

from __future__ import annotations

import asyncio
import os
import signal
from time import perf_counter

import httpx

from tests.support.harness.scene import Scene

_WATCH_S = 14.0
_RETURN_S = 20.0
_POLL_S = 0.1
_PARTS = (
    "limiter_worker-0",
    "dispatcher-0",
    "accounting-0",
    "kafka",
    "ledger",
    "bus",
    "backend healthy",
)
_BOTH = ("limiter_worker", "dispatcher")


async def each_in_turn(scene: Scene) -> list[str]:
    """SIGSTOP for fourteen seconds each; the first change that health shows, and its response times."""
    lines = []
    async with httpx.AsyncClient(base_url=scene.root, timeout=5.0, trust_env=False) as client:
        for part in (*_PARTS, *_BOTH):
            pids = _pids(scene, part)
            lines.append(await _hang(client, part, pids))
    return lines


def _pids(scene: Scene, part: str) -> list[int]:
    if part.startswith("backend "):
        return [scene.backends[part.removeprefix("backend ")].pid]
    return [pid for name, pid in scene.pids().items() if name in (part, f"{part}-0", f"{part}-1")]


async def _hang(client: httpx.AsyncClient, part: str, pids: list[int]) -> str:
    calm, _ = await _look(client)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    began_s = perf_counter()
    said, said_s, slowest_ms = "nothing", None, 0.0
    try:
        while perf_counter() - began_s < _WATCH_S:
            seen, took_ms = await _look(client)
            slowest_ms = max(slowest_ms, took_ms)
            if seen != calm and said_s is None:
                said, said_s = _difference(calm, seen), perf_counter() - began_s
            await asyncio.sleep(_POLL_S)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    again_s = perf_counter()
    back = "not calm again"
    while perf_counter() - again_s < _RETURN_S:
        seen, took_ms = await _look(client)
        slowest_ms = max(slowest_ms, took_ms)
        if seen == calm:
            back = f"calm again after {perf_counter() - again_s:.1f} s"
            break
        await asyncio.sleep(_POLL_S)
    after = "never" if said_s is None else f"after {said_s:.1f} s"
    return f"{part:<20} {after}: {said}; slowest answer {slowest_ms:.0f} ms; {back}"


async def _look(client: httpx.AsyncClient) -> tuple[dict[str, str], float]:
    """What readiness says, flat and without what moves by itself; and how long it took."""
    began_s = perf_counter()
    try:
        answer = await client.get("/v1/status/readyz")
    except httpx.HTTPError as error:
        return {"status": type(error).__name__}, (perf_counter() - began_s) * 1000
    took_ms = (perf_counter() - began_s) * 1000
    shown = {"http": str(answer.status_code)}
    _flatten("", answer.json(), shown)
    return shown, took_ms


def _flatten(prefix: str, value: object, into: dict[str, str]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _flatten(f"{prefix}.{name}" if prefix else name, inner, into)
    elif isinstance(value, list):
        into[prefix] = ",".join(map(str, value))
    elif isinstance(value, str):
        into[prefix] = value


def _difference(before: dict[str, str], after: dict[str, str]) -> str:
    changed = [f"{k}={v[:80]}" for k, v in after.items() if before.get(k) != v]
    gone = [f"{k} gone" for k in before if k not in after]
    return "; ".join([*changed, *gone][:6])
