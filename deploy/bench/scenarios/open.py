"""Added latency at a fixed rate, open loop, and the stages of a request from its events' own timestamps."""

from __future__ import annotations

import msgspec

from deploy.bench.bench import Bench, Measured, latencies_s
from deploy.bench.figures import Chart, Figure, Result, percentile_chart
from deploy.bench.load import Load
from deploy.bench.report import Latency
from deploy.bench.stage_log import StageLog
from deploy.bench.stages import Stage, sums

_WARM_UP_S = 3.0
_SECONDS = 20.0


async def run(bench: Bench) -> Result:
    """First the backend itself by the same client, then the gateway; it adds what is above the backend's median.

    The backend's own p99 is not taken off: a disturbance of its run would flatter the gateway.
    """
    warm_up_s = bench.seconds(_WARM_UP_S)
    load = bench.load(seconds=warm_up_s + bench.seconds(_SECONDS), warm_up_s=warm_up_s)
    alone = await _alone(bench, load)
    async with StageLog.opened(bench.target.brokers) as log:
        found, counts = await bench.counted("open", _told(load))
        stages = sums(await log.read(found.samples))
    figures = [
        Figure("open.total_p50", found.latency.p50_ms, "latency, p50", "ms"),
        Figure("open.total_p99", found.latency.p99_ms, "latency, p99", "ms"),
    ]
    if alone is not None:
        figures += [
            Figure("open.p50", found.latency.p50_ms - alone.latency.p50_ms),
            Figure("open.p99", found.latency.p99_ms - alone.latency.p50_ms),
        ]
    reports = [each.report for each in (alone, found) if each is not None]
    charts = [percentile_chart("open loop", latencies_s(found))]
    charts += [stage_chart(stages)] if stages else []
    notes = [stage_line(stage) for stage in stages]
    if found.report.send_delay is not None:
        notes.append(_late(found.report.send_delay))
    return Result(
        "open", figures, reports, charts, notes, counts, has_failed=bool(found.report.errors)
    )


async def _alone(bench: Bench, load: Load) -> Measured | None:
    if bench.target.backend_url is None:
        return None
    changes = {**bench.at_backend(load), "pids": {}}
    return await bench.drive("backend alone", _changed(load, changes))


def _told(load: Load) -> Load:
    return _changed(load, {"has_headers": True})


def _changed(load: Load, changes: dict[str, object]) -> Load:
    return msgspec.structs.replace(load, **changes)


def stage_chart(stages: list[Stage]) -> Chart:
    """The mean of each stage."""
    bars = [(stage.name, stage.mean_ms) for stage in stages]
    return Chart("stages of a request", "stage", "ms (mean)", bars, "bars")


def stage_line(stage: Stage) -> str:
    """A stage as a note tells it."""
    return (
        f"{stage.name}: mean {stage.mean_ms:.2f} ms, p50 {stage.p50_ms:.0f}, p99 {stage.p99_ms:.0f}"
        f" ({stage.requests} requests)"
    )


def _late(delay: Latency) -> str:
    return (
        f"the driver itself sent late by p99 {delay.p99_ms:.1f} ms, max {delay.max_ms:.1f} ms"
        " (contained in the latency)"
    )
