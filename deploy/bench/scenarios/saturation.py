"""The saturation curve: an open loop whose rate is stepped until p99 or errors break it."""

from __future__ import annotations

from deploy.bench.bench import Bench
from deploy.bench.curve import Point, next_rate_per_s, sustained_per_s
from deploy.bench.figures import Chart, Figure, Result

_WARM_UP_S = 1.0
_STEP_S = 4.0
_FIRST_RATES = 2
_TIMEOUT_S = 10.0


async def run(bench: Bench) -> Result:
    """Each rate for some seconds; what broke is told, too."""
    points: list[Point] = []
    first_per_s = _FIRST_RATES * bench.wanted.rate_per_s
    while (rate_per_s := next_rate_per_s(points, first_per_s)) is not None:
        points.append(await _offered(bench, rate_per_s))
    figures = [
        Figure(
            "saturation.rate",
            sustained_per_s(points),
            "highest rate that did not break",
            "requests/s",
        )
    ]
    charts = [
        Chart(
            "p99 by offered rate", "requests/s", "ms", [(p.offered_per_s, p.p99_ms) for p in points]
        ),
        Chart(
            "answered by offered rate",
            "requests/s",
            "requests/s",
            [(p.offered_per_s, p.achieved_per_s) for p in points],
        ),
    ]
    return Result("saturation", figures, charts=charts, notes=[_line(point) for point in points])


async def _offered(bench: Bench, rate_per_s: float) -> Point:
    warm_up_s = bench.seconds(_WARM_UP_S)
    load = bench.load(
        rate_per_s=rate_per_s,
        seconds=warm_up_s + bench.seconds(_STEP_S),
        warm_up_s=warm_up_s,
        timeout_s=_TIMEOUT_S,
    )
    report = (await bench.drive("saturation", load)).report
    spread = report.latency
    errors = sum(report.errors.values())
    good = report.requests - errors
    return Point(
        rate_per_s,
        good / (load.seconds - warm_up_s),
        spread.p50_ms if spread else _TIMEOUT_S * 1_000,
        spread.p99_ms if spread else _TIMEOUT_S * 1_000,
        errors / max(1, report.requests),
    )


def _line(point: Point) -> str:
    broke = "  broke" if point.is_broken else ""
    return (
        f"{point.offered_per_s:.0f}/s offered, {point.achieved_per_s:.0f}/s answered, p50 {point.p50_ms:.1f} ms,"
        f" p99 {point.p99_ms:.1f} ms, {point.error_share:.1%} errors{broke}"
    )
