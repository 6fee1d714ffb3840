"""Added time to the first token of streams at a fixed rate, open loop."""

from __future__ import annotations

import msgspec

from deploy.bench.bench import Bench
from deploy.bench.figures import Figure, Result, percentile_chart

_WARM_UP_S = 3.0
_SECONDS = 15.0
_TOKENS = 20


async def run(bench: Bench) -> Result:
    """The backend itself by the same client, then the gateway."""
    warm_up_s = bench.seconds(_WARM_UP_S)
    load = bench.load(
        seconds=warm_up_s + bench.seconds(_SECONDS),
        warm_up_s=warm_up_s,
        stream_share=1.0,
        max_tokens=_TOKENS,
    )
    reports, figures = [], []
    alone_ms = 0.0
    if bench.target.backend_url is not None:
        changes = {**bench.at_backend(load), "pids": {}}
        alone = await bench.drive("backend alone", msgspec.structs.replace(load, **changes))
        reports.append(alone.report)
        alone_ms = alone.first.p50_ms
    found, counts = await bench.counted("streams", load)
    reports.append(found.report)
    if bench.target.backend_url is not None:
        added_ms = found.first.p99_ms - alone_ms
        figures += [
            Figure("streams.p50", found.first.p50_ms - alone_ms),
            Figure("streams.p99", added_ms, "added time to first token, p99", "ms"),
        ]
    figures.append(Figure("streams.first", found.first.p50_ms, "time to first token, p50", "ms"))
    first_s = [sample.first_s for sample in found.samples if sample.first_s is not None]
    charts = [percentile_chart("time to first token", first_s)]
    failed = bool(found.report.errors)
    return Result("streams", figures, reports, charts, counts=counts, has_failed=failed)
