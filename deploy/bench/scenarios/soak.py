"""Half an hour at a steady rate: what grows, that should stand still by then.

Read every few seconds: memory and open files of each process, keys of both stores, how far the workers are behind. Judged are
the last two fifths: what the ledger remembers of ended requests, it remembers for seventeen minutes, so its keys grow until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

import httpx
import redis.asyncio as redis

from deploy.bench.bench import Bench, Unmeasurable
from deploy.bench.connection import OK
from deploy.bench.figures import Chart, Figure, Result
from deploy.bench.process_cost import read_processes
from deploy.bench.report import Sample
from deploy.bench.slope import per_hour, percent_per_hour
from deploy.bench.target import Target
from deploy.embedded.roles import ROLES

_SECONDS: Final = 1_800.0
_LOOK_S: Final = 10.0
_JUDGED: Final = 0.4
_ANSWERS_WITHIN_S: Final = 10.0
_STORES: Final = ("ledger", "bus")
_MB: Final = 1_000_000
_PARTS: Final = 5
"""Of the run, of which the notes tell the readings."""
Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen at one moment, by process or store."""

    at_s: float
    memory_mb: Values
    descriptors: Values
    keys: Values
    lag: Values


async def run(bench: Bench) -> Result:
    """An open loop; a look is beside it."""
    target = bench.target
    if target.stack is None or target.admin is None:
        raise Unmeasurable("stores and processes are read of a stack of its own: leave out --url")
    load = bench.load(seconds=bench.seconds(_SECONDS), pids={}, has_headers=True)
    seen: list[Reading] = []
    looking = asyncio.create_task(_look(target, seen, max(0.5, _LOOK_S * load.seconds / _SECONDS)))
    try:
        found = await bench.drive("soak", load)
    finally:
        looking.cancel()
        await asyncio.wait([looking])
    if looking.done() and not looking.cancelled():
        looking.result()
    figures, notes = judged(seen)
    notes += told_of_failures(found.samples)
    figures = [Figure("soak.failed", sum(found.report.errors.values())), *figures]
    charts = [
        Chart(
            "memory of our processes together",
            "s",
            "MB",
            [(r.at_s, sum(r.memory_mb.values())) for r in seen],
        ),
        Chart("keys of the ledger", "s", "keys", [(r.at_s, r.keys["ledger"]) for r in seen]),
    ]
    if load.seconds < _SECONDS:
        notes.append("shorter than half an hour: keys of ended requests still grow until then")
    failed = bool(found.report.errors)
    return Result("soak", figures, [found.report], charts, notes, has_failed=failed)


def judged(seen: Sequence[Reading]) -> tuple[list[Figure], list[str]]:
    """The steepest slope of each kind, and a line about everything that was read. Raises ``Unmeasurable``. Pure."""
    if len(seen) < _PARTS:
        raise Unmeasurable(f"only {len(seen)} readings: let it run for longer")
    last = seen[int(len(seen) * (1 - _JUDGED)) :]
    kinds: tuple[tuple[str, Callable[[Reading], Values], Callable[..., float]], ...] = (
        ("memory", lambda reading: reading.memory_mb, per_hour),
        ("descriptors", lambda reading: reading.descriptors, per_hour),
        ("keys", lambda reading: reading.keys, percent_per_hour),
        ("lag", lambda reading: reading.lag, per_hour),
    )
    figures, notes = [], []
    for kind, of, slope in kinds:
        at_s = [reading.at_s for reading in last]
        names = [name for name in of(last[0]) if all(name in of(reading) for reading in last)]
        slopes = {name: slope(at_s, [of(reading)[name] for reading in last]) for name in names}
        # The broker's heap and page index grow by its own rules, and are told only.
        ours = {name: rate for name, rate in slopes.items() if name != "kafka"}
        figures.append(Figure(f"soak.{kind}", max(ours.values(), default=0.0)))
        notes += [_line(kind, name, seen, of, slopes[name]) for name in names]
    return figures, notes


def told_of_failures(samples: Sequence[Sample]) -> list[str]:
    """A line for each way in which requests were not answered well: how many, when, and why. Pure."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        if sample.outcome != OK:
            why = f"{sample.outcome} {sample.cause}".rstrip()
            found.setdefault(why, []).append(sample.planned_s)
    return [
        f"{len(at_s)} x {why}; sent from {min(at_s):.1f} s to {max(at_s):.1f} s"
        for why, at_s in found.items()
    ]


def _line(
    kind: str, name: str, seen: Sequence[Reading], of: Callable[[Reading], Values], slope: float
) -> str:
    at = [seen[round(part * (len(seen) - 1) / _PARTS)] for part in range(_PARTS + 1)]
    values = " ".join(f"{of(reading).get(name, 0):.0f}" for reading in at)
    unit = {"memory": "MB", "keys": "keys", "lag": "records", "descriptors": "files"}[kind]
    share = " %" if kind == "keys" else ""
    return f"{name}: {values} {unit}; at the end {slope:+.1f}{share} an hour"


async def _look(target: Target, seen: list[Reading], every_s: float) -> None:
    assert target.stack is not None, "asked before"
    began_s = monotonic()
    urls = {"ledger": target.stack.ledger_url, "bus": target.stack.bus_url}
    clients = {
        n: redis.Redis.from_url(u, socket_timeout=_ANSWERS_WITHIN_S) for n, u in urls.items()
    }
    try:
        while True:
            at_s = monotonic() - began_s
            keys = {name: float(await client.dbsize()) for name, client in clients.items()}
            processes = read_processes(watched(target.pids))
            memory = {name: each.rss_bytes / _MB for name, each in processes.items()}
            lag = {"workers": await _lag(target.admin)}
            seen.append(Reading(at_s, memory, descriptors(watched(target.pids)), keys, lag))
            await asyncio.sleep(every_s)
    finally:
        for client in clients.values():
            await client.aclose()


def watched(pids: Mapping[str, int]) -> dict[str, int]:
    """Our processes, the broker and the stores; not the backend, which is the bench's own."""
    return {
        name: pid
        for name, pid in pids.items()
        if name.rpartition("-")[0] in ROLES or name == "kafka" or name.startswith(_STORES)
    }


def descriptors(pids: Mapping[str, int]) -> dict[str, float]:
    """Open files of each process that lives (Linux)."""
    found = {}
    for name, pid in pids.items():
        try:
            found[name] = float(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            continue
    return found


async def _lag(admin: httpx.AsyncClient | None) -> float:
    assert admin is not None, "asked before"
    answer: Any = (await admin.get("/lag")).raise_for_status().json()
    return float(sum(each["lag"] for each in answer["items"]))
