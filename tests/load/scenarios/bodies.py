"""Many large bodies at once, refused large bodies, and many jobs: what they cost in memory and on disk."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import redis.asyncio as redis

from tests.support.harness.scene import HEALTHY_MODEL, UNLIMITED, Scene, Tenant

_BODIES = 120
_BODY_BYTES = 4 * 1024 * 1024 - 4_096
_REFUSED = 60
_JOBS = 5_000
_TRIES_MAX = 60
_GIVE_UP_S = 240.0
_PEAK = "VmHWM:"


async def large_bodies(scene: Scene) -> list[str]:
    """120 bodies of 4 MiB at once; clients retry as they are told until all have 200."""
    tenants = [await scene.tenant(f"large-{number}") for number in range(4)]
    body = _body("x" * _BODY_BYTES)
    before = _peaks(scene)
    _forget_peaks(scene)
    began_s = perf_counter()
    statuses: Counter[str] = Counter()
    async with _session() as session:
        ended = await asyncio.gather(
            *(_until_200(session, scene, tenants[n % 4], body, statuses) for n in range(_BODIES))
        )
    took_s = perf_counter() - began_s
    peaks = _peaks(scene)
    return [
        f"{ended.count(True)} of {_BODIES} have 200 after {took_s:.1f} s; answers: {dict(statuses)}",
        "peak MiB: " + ", ".join(f"{name} {peak >> 20}" for name, peak in sorted(peaks.items())),
        f"before: {', '.join(f'{name} {peak >> 20}' for name, peak in sorted(before.items()))}",
    ]


async def refused_bodies(scene: Scene) -> list[str]:
    """60 bodies of 4 MiB of an organization whose budget is spent: what reaches Kafka's disk."""
    limits = {**UNLIMITED, "budgets": [{"usd": "0.000001", "period": "month"}]}
    tenant = await scene.tenant("spent", limits)
    folder = _kafka_folder(scene)
    body = _body("x" * _BODY_BYTES)
    before = _size(folder)
    statuses: Counter[str] = Counter()
    async with _session() as session:
        for _ in range(_REFUSED):
            async with session.post(
                f"{scene.url}/chat/completions", data=body, headers=_headers(tenant)
            ) as answer:
                await answer.read()
                statuses[str(answer.status)] += 1
    await asyncio.sleep(1.0)
    grown = _size(folder) - before
    return [
        f"answers: {dict(statuses)}",
        f"Kafka's disk grew by {grown / 2**20:.1f} MiB: {grown / _BODY_BYTES:.1f} bodies",
    ]


async def many_jobs(scene: Scene) -> list[str]:
    """5 000 jobs of one organization: when all are done, and what one costs in the ledger."""
    tenant = await scene.tenant("jobs")
    store = redis.Redis(port=scene.stack.ports["ledger"])
    before = int((await store.info("memory"))["used_memory"])
    began_s = perf_counter()
    accepted = await _submit(scene, tenant)
    submitted_s = perf_counter() - began_s
    done = await _wait_for_jobs(scene, tenant, accepted)
    after = int((await store.info("memory"))["used_memory"])
    keys = await _bytes_by_kind(store)
    await store.aclose()
    return [
        f"{len(accepted)} jobs taken in {submitted_s:.1f} s; states at the end: {done}",
        f"ledger: {(after - before) / max(1, len(accepted)):.0f} bytes a job",
        "by kind, bytes a job: "
        + ", ".join(f"{kind} {size / max(1, len(accepted)):.0f}" for kind, size in keys.items()),
    ]


async def _submit(scene: Scene, tenant: Tenant) -> list[str]:
    places = asyncio.Semaphore(32)
    ids: list[str] = []

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        job = {"model": HEALTHY_MODEL, "payload": f"job {number}"}
        async with places:
            for _ in range(_TRIES_MAX):
                async with session.post(
                    f"{scene.url}/jobs", json=job, headers=_headers(tenant)
                ) as answer:
                    told = await answer.json()
                    if answer.status == 202:
                        ids.append(told["id"])
                        return
                    await asyncio.sleep(_wait_s(answer))

    async with _session() as session:
        await asyncio.gather(*(one(session, number) for number in range(_JOBS)))
    return ids


async def _wait_for_jobs(scene: Scene, tenant: Tenant, ids: list[str]) -> dict[str, int]:
    """States of all jobs, from the lists, once none is open or time is up."""
    end_s = perf_counter() + _GIVE_UP_S
    states: Counter[str] = Counter()
    async with _session() as session:
        while perf_counter() < end_s:
            states = Counter()
            after: str | None = None
            while True:
                parameters: dict[str, Any] = {"limit": 100, **({"after": after} if after else {})}
                async with session.get(
                    f"{scene.url}/jobs", params=parameters, headers=_headers(tenant)
                ) as answer:
                    page = await answer.json()
                states.update(job["status"] for job in page.get("data", []))
                if not page.get("has_more"):
                    break
                after = page["data"][-1]["id"]
            if sum(states.values()) >= len(ids) and not states["queued"] + states["running"]:
                break
            await asyncio.sleep(2.0)
    return dict(states)


async def _bytes_by_kind(store: redis.Redis) -> dict[str, int]:
    """Memory of the organization's keys, by the first part of their name."""
    sizes: Counter[str] = Counter()
    async for key in store.scan_iter("*jobs*", count=1_000):
        name = key.decode()
        kind = name.rpartition("|")[2]
        usage = await store.memory_usage(key, samples=0)
        sizes[kind.split(":")[0][:8]] += int(usage or 0)
    return dict(sizes)


async def _until_200(
    session: aiohttp.ClientSession,
    scene: Scene,
    tenant: Tenant,
    body: bytes,
    statuses: Counter[str],
) -> bool:
    for _ in range(_TRIES_MAX):
        try:
            async with session.post(
                f"{scene.url}/chat/completions", data=body, headers=_headers(tenant)
            ) as answer:
                await answer.read()
                statuses[str(answer.status)] += 1
                if answer.status == 200:
                    return True
                wait_s = _wait_s(answer)
        except aiohttp.ClientError as error:
            statuses[type(error).__name__] += 1
            wait_s = 0.5
        await asyncio.sleep(wait_s)
    return False


def _wait_s(answer: aiohttp.ClientResponse) -> float:
    """As long as the answer says; half a second where it says nothing."""
    told = answer.headers.get("retry-after-ms")
    return int(told) / 1000 if told else 0.5


def _headers(tenant: Tenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json"}


def _body(text: str) -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps({"model": HEALTHY_MODEL, "messages": [message], "max_tokens": 8}).encode()


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=180)
    )


def _peaks(scene: Scene) -> dict[str, int]:
    """The most memory each process ever had resident, since it was last forgotten."""
    peaks = {}
    for name, pid in scene.pids().items():
        status = Path(f"/proc/{pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(_PEAK))
        peaks[name] = int(line.split()[1]) * 1024
    return peaks


def _forget_peaks(scene: Scene) -> None:
    for pid in scene.pids().values():
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _kafka_folder(scene: Scene) -> Path:
    return scene.state_dir / "kafka"


def _size(folder: Path) -> int:
    """Bytes of the log segments; what Kafka sets aside for indexes is not data."""
    return sum(path.stat().st_size for path in folder.rglob("*.log"))
