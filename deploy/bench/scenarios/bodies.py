"""32 bodies of 4 MB beside 200 small streams: what the streams feel of them, and what a body takes in the log."""

from __future__ import annotations

import asyncio
from time import monotonic

import msgspec

from deploy.bench.bench import Bench, Measured, Unmeasurable
from deploy.bench.connection import OK
from deploy.bench.figures import Figure, Result
from deploy.bench.load import Load
from deploy.bench.scenarios.open import stage_line
from deploy.bench.stage_log import StageLog
from deploy.bench.stages import sums
from deploy.bench.target import ORG

_BODIES = 32
_BODY_BYTES = 4_000_000
_ORGS = 4
_STREAMS = 200
_RATE_PER_S = 40.0
_TOKENS = 10
_TIMEOUT_S = 60.0
_PREPARED_WITHIN_S = 12.0
_SETTLED_S = 1.0


async def run(bench: Bench) -> Result:
    """The streams alone, then with all bodies at once; bodies cannot be compressed."""
    target = bench.target
    if target.stack is None:
        raise Unmeasurable("the log's size is read on a stack of the bench's own: leave out --url")
    keys = [await target.new_key(f"{ORG}-large-{number}") for number in range(_ORGS)]
    streams = bench.load(
        rate_per_s=_RATE_PER_S,
        seconds=bench.number(_STREAMS) / _RATE_PER_S,
        stream_share=1.0,
        max_tokens=_TOKENS,
        timeout_s=_TIMEOUT_S,
        has_headers=True,
    )
    await bench.drive("streams, warming up", streams)
    empty = target.log_bytes()
    alone = await bench.drive("streams alone", streams)
    await asyncio.sleep(_SETTLED_S)
    before = target.log_bytes()
    async with StageLog.opened(target.brokers) as log:
        beside, large = await _together(bench, streams, keys)
        await asyncio.sleep(_SETTLED_S)
        grown = target.log_bytes() - before - (before - empty)
        stages = sums(await log.read(beside.samples))
    taken = sum(sample.outcome == OK for sample in large.samples)
    if not taken:
        raise Unmeasurable(f"no large body was answered: {large.report.errors}")
    more_ms = beside.first.p99_ms - alone.first.p99_ms
    figures = [
        Figure("bodies.first", more_ms),
        Figure("bodies.log", grown / (taken * _BODY_BYTES)),
        Figure("bodies.taken", taken, f"of {bench.number(_BODIES)} bodies, answered 200", ""),
        Figure("bodies.slowest", large.latency.max_ms, "slowest large body", "ms"),
    ]
    notes = [
        f"time to first token p99: {alone.first.p99_ms:.1f} ms alone, {beside.first.p99_ms:.1f} ms beside",
        f"time to first token p50: {alone.first.p50_ms:.1f} ms alone, {beside.first.p50_ms:.1f} ms beside",
        *(stage_line(stage) for stage in stages),
    ]
    reports = [alone.report, beside.report, large.report]
    failed = bool(alone.report.errors or beside.report.errors)
    return Result("bodies", figures, reports, notes=notes, has_failed=failed)


async def _together(bench: Bench, streams: Load, keys: list[str]) -> tuple[Measured, Measured]:
    start_s = monotonic() + _PREPARED_WITHIN_S
    bodies = bench.number(_BODIES)
    large = bench.load(
        loop="closed",
        keys=[keys[number % _ORGS] for number in range(bodies)],
        connections=bodies,
        most_requests=bodies,
        seconds=_TIMEOUT_S,
        timeout_s=_TIMEOUT_S,
        prompt_chars=_BODY_BYTES,
        start_at_s=start_s,
    )
    beside = msgspec.structs.replace(streams, start_at_s=start_s)
    return await asyncio.gather(
        bench.drive("streams beside bodies", beside), bench.drive("bodies", large)
    )
