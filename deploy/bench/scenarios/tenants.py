"""200 organizations at ten backends that answer after 100 ms, at 60 % of the gateway's own peak."""

from __future__ import annotations

import msgspec

from deploy.bench import tenants_in_bulk
from deploy.bench.bench import Bench, Unmeasurable, latencies_s
from deploy.bench.figures import Figure, Result, percentile_chart
from deploy.bench.target import SPREAD_MODEL

_ORGS = 200
_CONNECTIONS = 256
_PEAK_WARM_UP_S = 3.0
_PEAK_S = 8.0
_SHARE = 0.6
_SECONDS = 60.0
_WARM_UP_S = 3.0
_ALONE_S = 5.0


async def run(bench: Bench) -> Result:
    """The peak in a closed loop, the backend itself, then the share of the peak in an open loop."""
    if bench.target.stack is None:
        raise Unmeasurable(
            "its organizations are made on a stack of the bench's own: leave out --url"
        )
    # Another run has made its own already.
    made = tenants_in_bulk.tenants(_ORGS, _ORGS, f"tenant-{bench.unique()}")
    await tenants_in_bulk.write(bench.target, made)
    load = bench.load(keys=[one.secret for one in made], model=SPREAD_MODEL)
    warm_up_s = bench.seconds(_PEAK_WARM_UP_S)
    closed = {
        "loop": "closed",
        "connections": _CONNECTIONS,
        "seconds": warm_up_s + bench.seconds(_PEAK_S),
        "warm_up_s": warm_up_s,
    }
    peak = await bench.drive("peak", msgspec.structs.replace(load, **closed))
    if not peak.report.requests_per_s:
        raise Unmeasurable(f"there is no peak: nothing was answered well: {peak.report.errors}")
    rate_per_s = _SHARE * peak.report.requests_per_s
    at_backend = {**bench.at_backend(load), "pids": {}, "rate_per_s": rate_per_s}
    at_backend["seconds"] = bench.seconds(_ALONE_S)
    alone = await bench.drive("backend alone", msgspec.structs.replace(load, **at_backend))
    warm_up_s = bench.seconds(_WARM_UP_S)
    steady = {
        "rate_per_s": rate_per_s,
        "seconds": warm_up_s + bench.seconds(_SECONDS),
        "warm_up_s": warm_up_s,
    }
    found = await bench.drive("tenants", msgspec.structs.replace(load, **steady))
    figures = [
        Figure("tenants.added", found.latency.p95_ms - alone.latency.p50_ms),
        Figure("tenants.total", found.latency.p95_ms),
        Figure("tenants.rate", rate_per_s, f"{_SHARE:.0%} of its peak", "requests/s"),
    ]
    charts = [percentile_chart("200 organizations", latencies_s(found))]
    reports = [peak.report, alone.report, found.report]
    return Result("tenants", figures, reports, charts, has_failed=bool(found.report.errors))
