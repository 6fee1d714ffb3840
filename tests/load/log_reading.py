"""What reading a long log costs, and what clients feel of it.

`python -m tests.load.log_reading [--lines 1000000]` starts a stack, writes a month of usage lines into it, and
measures `ledger verify`, from nothing and from its checkpoint, and `requests show`: time, and the most memory
that the process of the admin API and its scan take. Then 50 requests per second, with these commands one after
another beside them and without, in pairs of windows. Exit code 1 when verification finds a difference.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from deploy.bench.requests import prepare_mix
from tests.load.offer import Offered, offer, ratio_of_pairs
from tests.load.usage_lines import Written, write_month
from tests.support.harness.scene import HEALTHY_MODEL, PARTITIONS, Scene, running_scene

REPLICAS: Final = {"ingress": 1, "limiter_worker": 1, "dispatcher": 1, "accounting": 1}
RATE_PER_S: Final = 50.0
WARM_S: Final = 10.0
WINDOW_S: Final = 30.0
PAIRS: Final = 3
SHOWN: Final = 20
_SAMPLE_S: Final = 0.02
_VERIFY_TIMEOUT_S: Final = 700.0
_MIB: Final = 1 << 20


@dataclass
class Peak:
    """The most resident memory seen of a process, and of its children together, in bytes."""

    own: int = 0
    children: int = 0

    def __str__(self) -> str:
        return f"admin {self.own / _MIB:.0f} MiB, its scan {self.children / _MIB:.0f} MiB"


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Peak]:
    """The peak of what goes on meanwhile."""
    peak = Peak()
    watching = asyncio.create_task(_watch(psutil.Process(pid), peak))
    try:
        yield peak
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def _watch(process: psutil.Process, peak: Peak) -> None:
    while True:
        own, children = process.memory_info().rss, 0
        for child in process.children():
            with suppress(psutil.NoSuchProcess):
                children += child.memory_info().rss
        peak.own, peak.children = max(peak.own, own), max(peak.children, children)
        await asyncio.sleep(_SAMPLE_S)


async def measure(scene: Scene, lines: int) -> AsyncIterator[str]:
    """All of it, a line per finding."""
    began_s = time.perf_counter()
    written = await write_month(
        scene.stack.kafka_brokers, scene.stack.ledger_url, lines, PARTITIONS
    )
    seconds = time.perf_counter() - began_s
    yield f"{written.lines} lines in {written.records} records, written within {seconds:.0f} s"
    for name in ("from nothing", "from its checkpoint", "from its checkpoint"):
        line, verdict = await _verified(scene, name)
        yield line
        assert verdict["difference"] == 0, verdict["differences"][:5]
        assert verdict["usage_lines"] == written.lines, verdict["usage_lines"]
    yield await _shown(scene, written)
    async for line in _beside_load(scene, written):
        yield line


async def _verified(scene: Scene, name: str) -> tuple[str, dict[str, Any]]:
    async with watched(_admin_pid(scene)) as peak:
        began_s = time.perf_counter()
        verdict = await _verify(scene, 5.0)
        seconds = time.perf_counter() - began_s
    line = (
        f"ledger verify, {name}: {seconds:.1f} s, {verdict['checkpoint']['records_read']} records read, "
        f"difference {verdict['difference']}; {peak}"
    )
    return line, verdict


async def _verify(scene: Scene, deadline_s: float) -> Any:
    answer = await scene.admin.get(
        "/ledger/verify", params={"deadline_s": deadline_s}, timeout=_VERIFY_TIMEOUT_S
    )
    return answer.raise_for_status().json()


async def _shown(scene: Scene, written: Written) -> str:
    """One request after another, from all over the month."""
    step = max(1, len(written.request_ids) // SHOWN)
    times_s, records = [], []
    async with watched(_admin_pid(scene)) as peak:
        for request_id in written.request_ids[::step]:
            began_s = time.perf_counter()
            answer = (await scene.admin.get(f"/requests/{request_id}")).raise_for_status().json()
            times_s.append(time.perf_counter() - began_s)
            records.append(answer["search"]["records"])
            assert answer["steps"], answer
            assert answer["search"]["gave_up"] is None, answer["search"]
    return (
        f"requests show, {len(times_s)} of the month: median {median(times_s):.2f} s, "
        f"longest {max(times_s):.2f} s, {median(records):.0f} records read; {peak}"
    )


async def _beside_load(scene: Scene, written: Written) -> AsyncIterator[str]:
    tenant = await scene.tenant("client")
    requests = prepare_mix(scene.url, tenant.key, HEALTHY_MODEL, 0.25)
    await offer([scene.url], requests, RATE_PER_S, WARM_S)
    pairs = []
    for number in range(1, PAIRS + 1):
        began = _cpu_s(scene)
        without = await offer([scene.url], requests, RATE_PER_S, WINDOW_S)
        between = _cpu_s(scene)
        reading = asyncio.create_task(_read_on(scene, written))
        with_it = await offer([scene.url], requests, RATE_PER_S, WINDOW_S)
        ended = _cpu_s(scene)
        reading.cancel()
        await asyncio.wait([reading])
        yield f"{_window(f'{number} without', without)}  CPU {_more(began, between)}"
        yield f"{_window(f'{number} beside reading', with_it)}  CPU {_more(between, ended)}"
        pairs.append((without, with_it))
    yield _ratio("p50", pairs)
    yield _ratio("p99", pairs)


def _cpu_s(scene: Scene) -> dict[str, float]:
    """Seconds of the processor that each process has had, scans with that of the admin API."""
    used = {}
    for name, pid in scene.pids().items():
        times = psutil.Process(pid).cpu_times()
        used[name] = sum(times[:4])
    return used


def _more(before: dict[str, float], after: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {after[name] - before[name]:.1f} s" for name in before if name in after
    )


async def _read_on(scene: Scene, written: Written) -> None:
    """Verify and show, one after another, for ever."""
    number = 0
    while True:
        await _verify(scene, 0.0)
        number += 1
        request_id = written.request_ids[number * 997 % len(written.request_ids)]
        (await scene.admin.get(f"/requests/{request_id}")).raise_for_status()


def _window(name: str, offered: Offered) -> str:
    spread = offered.spread
    assert spread is not None
    return (
        f"{name:<18} p50 {spread.p50_ms:.1f} ms  p99 {spread.p99_ms:.1f} ms  max {spread.max_ms:.0f} ms  "
        f"{spread.samples} good, not 200: {offered.failures or 'none'}"
    )


def _ratio(name: str, pairs: Sequence[tuple[Offered, Offered]]) -> str:
    of = [(getattr(a.spread, f"{name}_ms"), getattr(b.spread, f"{name}_ms")) for a, b in pairs]
    return f"{name} beside reading / without: {ratio_of_pairs(of)}"


def _admin_pid(scene: Scene) -> int:
    pids = scene.pids()
    return pids.get("admin-0") or pids["ingress-0"]


async def play(lines: int) -> None:
    """On a stack of its own."""
    with tempfile.TemporaryDirectory(prefix="tallygate-log-reading-") as folder:
        async with running_scene(Path(folder), REPLICAS) as scene:
            async for line in measure(scene, lines):
                print(line, flush=True)


def main() -> int:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    asyncio.run(play(parser.parse_args().lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
