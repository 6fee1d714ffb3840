"""The highest rate that is sustained: a closed loop of 64 connections, and what a request costs in it."""

from __future__ import annotations

from deploy.bench.bench import Bench, latencies_s, own_cpu_ms, stores_cpu_ms
from deploy.bench.figures import Chart, Figure, Result, percentile_chart

_WARM_UP_S = 4.0
_SECONDS = 12.0


async def run(bench: Bench) -> Result:
    """Drive, and name what each process costs."""
    warm_up_s = bench.seconds(_WARM_UP_S)
    seconds = warm_up_s + bench.seconds(_SECONDS)
    load = bench.load(loop="closed", seconds=seconds, warm_up_s=warm_up_s)
    found, counts = await bench.counted("closed", load)
    report = found.report
    figures = [Figure("closed.rate", report.requests_per_s)]
    figures += [Figure("closed.p50", found.latency.p50_ms, "closed loop, p50", "ms")]
    charts = [percentile_chart("closed loop", latencies_s(found))]
    if bench.target.pids:
        figures += [
            Figure("closed.cpu", own_cpu_ms(report)),
            Figure("closed.stores_cpu", stores_cpu_ms(report)),
        ]
        bars = [(name, cost.cpu_ms_per_request or 0.0) for name, cost in report.processes.items()]
        charts.append(Chart("CPU per request", "process", "ms", bars, "bars"))
    return Result(
        "closed", figures, [report], charts, counts=counts, has_failed=bool(report.errors)
    )
