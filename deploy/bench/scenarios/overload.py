"""2 000 requests/s offered for ten seconds: what is answered, and how long until p99 is normal again."""

from __future__ import annotations

import asyncio
from math import isfinite
from time import monotonic

import msgspec

from deploy.bench.bench import Bench
from deploy.bench.connection import OK
from deploy.bench.figures import Chart, Figure, Result
from deploy.bench.recovery import p99_by_second, recovered_after_s

_RATE_PER_S = 2_000.0
_SECONDS = 10.0
_NORMAL_S = 6.0
_AFTER_S = 20.0
_PREPARED_WITHIN_S = 4.0
_MOST_CONNECTIONS = 4_000
_TIMEOUT_S = 60.0
_STATED = (OK, "http_429", "http_503")


async def run(bench: Bench) -> Result:
    """The normal rate, the overload, and the normal rate again from the moment on when it ends."""
    normal = bench.load(seconds=bench.seconds(_NORMAL_S), timeout_s=_TIMEOUT_S)
    await bench.drive("warming up", normal)
    before = await bench.drive("normal", normal)
    start_s = monotonic() + _PREPARED_WITHIN_S
    overload_s = bench.seconds(_SECONDS)
    overload = {
        "rate_per_s": _RATE_PER_S,
        "seconds": overload_s,
        "most_connections": _MOST_CONNECTIONS,
        "has_headers": True,
        "start_at_s": start_s,
    }
    again = {"seconds": bench.seconds(_AFTER_S), "start_at_s": start_s + overload_s, "pids": {}}
    offered, after = await asyncio.gather(
        bench.drive("overload", msgspec.structs.replace(normal, **overload)),
        bench.drive("afterwards", msgspec.structs.replace(normal, **again)),
    )
    unstated = [sample.outcome for sample in offered.samples if sample.outcome not in _STATED]
    p99s_ms = p99_by_second(after.samples)
    recovered_s = recovered_after_s(p99s_ms, before.latency.p99_ms)
    good = sum(sample.outcome == OK for sample in offered.samples)
    figures = [
        Figure("overload.unstated", len(unstated)),
        Figure("overload.recovery", recovered_s if isfinite(recovered_s) else _AFTER_S),
        Figure("overload.good", good / overload_s, "answered 200 while overloaded", "requests/s"),
    ]
    seconds = [(second + 1.0, p99) for second, p99 in enumerate(p99s_ms) if isfinite(p99)]
    notes = [
        f"of {len(offered.samples)}: {_told([sample.outcome for sample in offered.samples])}",
        f"p99 by second after it, ms: {', '.join(f'{p99:.0f}' for p99 in p99s_ms)} (normal {before.latency.p99_ms:.0f})",
    ]
    if not isfinite(recovered_s):
        notes.append(f"p99 was not normal again within {bench.seconds(_AFTER_S):.0f} s")
    reports = [before.report, offered.report, after.report]
    charts = [Chart("p99 after the overload", "s", "ms", seconds)]
    return Result("overload", figures, reports, charts, notes)


def _told(outcomes: list[str]) -> str:
    kinds = sorted(set(outcomes))
    return ", ".join(f"{kind} {outcomes.count(kind)}" for kind in kinds)
