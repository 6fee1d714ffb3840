"""A backend that takes a second and a half, as a model would: the whole of it, and what the gateway adds."""

from __future__ import annotations

import msgspec

from deploy.bench.bench import Bench, latencies_s
from deploy.bench.figures import Figure, Result, percentile_chart
from deploy.bench.target import PAUSED_MODEL

_WARM_UP_S = 4.0
_SECONDS = 30.0


async def run(bench: Bench) -> Result:
    """First the backend itself by the same client, then the gateway; it adds what its p95 is above the backend's median.

    A gateway that runs already is asked for the model that was named, whatever its backend takes.
    """
    model = bench.target.model if bench.target.stack is None else PAUSED_MODEL
    warm_up_s = bench.seconds(_WARM_UP_S)
    load = bench.load(model=model, seconds=warm_up_s + bench.seconds(_SECONDS), warm_up_s=warm_up_s)
    at_backend = msgspec.structs.replace(load, **{**bench.at_backend(load), "pids": {}})
    alone = await bench.drive("backend alone", at_backend)
    found = await bench.drive("baseline", load)
    figures = [
        Figure("baseline.p95", found.latency.p95_ms),
        Figure("baseline.added", found.latency.p95_ms - alone.latency.p50_ms),
        Figure("baseline.backend", alone.latency.p50_ms, "the backend alone, p50", "ms"),
    ]
    charts = [percentile_chart("baseline", latencies_s(found))]
    failed = bool(found.report.errors)
    return Result("baseline", figures, [alone.report, found.report], charts, has_failed=failed)
