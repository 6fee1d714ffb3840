"""What every gateway is put through, one after another, by the same driver before the same backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deploy.bench.bench import Measured, measured
from deploy.bench.connection import OK, STREAM_BROKEN
from deploy.bench.driving import DriverFailed, driven
from deploy.bench.load import Load
from deploy.bench.report import Report, latency
from tests.load.peers.gateways import Running

CHARS_A_TOKEN: Final = 4
PROMPTS: Final = {"1k": 1_000, "10k": 10_000, "100k": 100_000}
"""Prompts in tokens, about."""
_WARM_UP_S: Final = 2.0
_SECONDS: Final = 4.0
_OPEN_S: Final = 8.0
_SMALL_PER_S: Final = 20.0
_FLOOD_PER_S: Final = 200.0
_TIMEOUT_S: Final = 10.0
_TOKENS: Final = 20
_STORES: Final = ("kafka", "ledger", "bus")

Figures = dict[str, float]


@dataclass(frozen=True)
class Round:
    """One gateway in one round."""

    gateway: Running
    scale: float

    async def figures(self, tell: Callable[[str], None]) -> Figures:
        """All figures; a scenario that this gateway fails is left out and told."""
        found: Figures = {}
        for name, scenario in _SCENARIOS.items():
            try:
                found |= await scenario(self)
            except (DriverFailed, _Failed) as problem:
                tell(f"  {name}: {problem}")
        return found

    async def drive(self, name: str, **changes: Any) -> Measured:
        """One load, with its warm-up cut."""
        gateway, scale = self.gateway, self.scale
        seconds, warm_up_s = changes.pop("seconds", _SECONDS) * scale, _WARM_UP_S * scale
        wanted: dict[str, Any] = {
            "url": gateway.url,
            "keys": [gateway.key],
            "model": gateway.model,
            "headers": dict(gateway.headers),
            "pids": dict(gateway.pids),
            "seconds": seconds + warm_up_s,
            "warm_up_s": warm_up_s,
            "timeout_s": _TIMEOUT_S,
        }
        return measured(name, await driven(Load(**(wanted | changes))))


class _Failed(Exception):
    """A gateway does not answer well enough to be compared."""


async def _closed(run: Round) -> Figures:
    found: Figures = {}
    for connections in (1, 8, 64):
        report = (await run.drive("closed", loop="closed", connections=connections)).report
        found[f"c{connections}.rate"] = report.requests_per_s
        found[f"c{connections}.p50_ms"] = _whole(report).p50_ms
    found["c64.cpu_ms"] = _cpu_ms(report.processes, stores=True)
    found["c64.own_cpu_ms"] = _cpu_ms(report.processes, stores=False)
    found["rss_mib"] = sum(
        cost.rss_mib for name, cost in report.processes.items() if _is_theirs(name)
    )
    return found


async def _open(run: Round) -> Figures:
    spread = _whole((await run.drive("open", seconds=_OPEN_S)).report)
    return {"open50.p50_ms": spread.p50_ms, "open50.p99_ms": spread.p99_ms}


async def _streams(run: Round) -> Figures:
    """A stream that lacks the last mark alone counts: not every gateway sends it."""
    found = await run.drive("streams", stream_share=1.0, max_tokens=_TOKENS)
    whole = [
        sample
        for sample in found.samples
        if sample.outcome in (OK, STREAM_BROKEN) and sample.events >= _TOKENS
    ]
    first = latency(sample.first_s for sample in whole if sample.first_s is not None)
    total = latency(sample.latency_s for sample in whole)
    if first is None or total is None or len(whole) < len(found.samples) * 0.9:
        raise _Failed(f"{len(whole)} of {len(found.samples)} were whole: {found.report.errors}")
    return {"stream.first_p50_ms": first.p50_ms, "stream.whole_p50_ms": total.p50_ms}


async def _prompts(run: Round) -> Figures:
    found: Figures = {}
    for name, tokens in PROMPTS.items():
        chars = tokens * CHARS_A_TOKEN
        report = (await run.drive(name, loop="closed", connections=8, prompt_chars=chars)).report
        found |= {f"{name}.rate": report.requests_per_s, f"{name}.p50_ms": _whole(report).p50_ms}
    return found


async def _head_of_line(run: Round) -> Figures:
    """Small requests beside eight connections of 100k-token prompts, and beside slow calls."""
    small: dict[str, Any] = {"rate_per_s": _SMALL_PER_S, "seconds": _SECONDS}
    alone = await run.drive("small", **small)
    chars = PROMPTS["100k"] * CHARS_A_TOKEN
    beside, _ = await asyncio.gather(
        run.drive("small", **small),
        run.drive("large", loop="closed", connections=8, prompt_chars=chars, pids={}),
    )
    return {
        "hol.alone_p99_ms": _whole(alone.report).p99_ms,
        "hol.large_p99_ms": _whole(beside.report).p99_ms,
    }


async def _key_flood(run: Round) -> Figures:
    """Small requests beside 200/s with wrong keys, each another one."""
    wrong = [f"{run.gateway.key[:-6]}{number:06d}" for number in range(1_000)]
    beside, _ = await asyncio.gather(
        run.drive("small", rate_per_s=_SMALL_PER_S),
        run.drive("flood", rate_per_s=_FLOOD_PER_S, keys=wrong, pids={}),
    )
    return {"flood.p99_ms": _whole(beside.report).p99_ms}


_SCENARIOS: Final[Mapping[str, Callable[[Round], Awaitable[Figures]]]] = {
    "closed loops": _closed,
    "open loop": _open,
    "streams": _streams,
    "prompts": _prompts,
    "head of line": _head_of_line,
    "key flood": _key_flood,
}


def _whole(report: Report) -> Any:
    """Latency of a run that was answered well, by nine of ten at least."""
    wrong = sum(report.errors.values())
    if report.latency is None or wrong > report.requests / 10:
        raise _Failed(f"{wrong} of {report.requests} failed: {report.errors}")
    return report.latency


def _cpu_ms(processes: Mapping[str, Any], *, stores: bool) -> float:
    return sum(
        cost.cpu_ms_per_request or 0.0
        for name, cost in processes.items()
        if _is_theirs(name) and (stores or name not in _STORES)
    )


def _is_theirs(name: str) -> bool:
    return name != "load driver"
