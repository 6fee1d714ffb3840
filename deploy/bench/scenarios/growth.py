"""What a request costs as organizations and keys grow, on a stack that is filled while it is measured."""

from __future__ import annotations

from deploy.bench import tenants_in_bulk
from deploy.bench.bench import Bench, Unmeasurable, own_cpu_ms
from deploy.bench.figures import Chart, Figure, Result
from deploy.bench.report import Report

_FEW = 10
_ORGS = 10_000
_KEYS = 100_000
_WARM_UP_S = 4.0
_SECONDS = 8.0
_WINDOWS = 2


async def run(bench: Bench) -> Result:
    """Ten organizations, then ten thousand, then ten keys of each; CPU in units of the reference work."""
    if bench.fresh is None:
        raise Unmeasurable("a gateway is not filled for a measurement: leave out --url")
    orgs, keys = max(_FEW, bench.number(_ORGS)), max(_FEW, bench.number(_KEYS))
    reports: list[Report] = []
    async with bench.fresh() as target:
        inside = bench.at(target)
        costs = []
        for name, made in (
            (f"{_FEW} keys", tenants_in_bulk.tenants(_FEW, _FEW, "few")),
            (f"{orgs} organizations", tenants_in_bulk.tenants(orgs, orgs, "many")),
            (f"{keys} keys", tenants_in_bulk.tenants(orgs, keys, "many-keys")),
        ):
            bench.tell(f"growth: writing {name}")
            await tenants_in_bulk.write(target, made)
            secrets = [one.secret for one in made]
            windows = [await _window(inside, name, secrets) for _ in range(_WINDOWS)]
            reports += windows
            costs.append(min(map(_cost, windows)))
    few, of_orgs, of_keys = costs
    bars = list(zip((f"{_FEW}", f"{orgs} orgs", f"{keys} keys"), costs, strict=True))
    return Result(
        "growth",
        [Figure("growth.orgs", of_orgs / few), Figure("growth.keys", of_keys / few)],
        reports,
        [Chart("CPU of a request", "size", "x the reference work", bars, "bars")],
        has_failed=any(report.errors for report in reports),
    )


async def _window(bench: Bench, name: str, secrets: list[str]) -> Report:
    warm_up_s = bench.seconds(_WARM_UP_S)
    load = bench.load(
        loop="closed",
        keys=secrets,
        seconds=warm_up_s + bench.seconds(_SECONDS),
        warm_up_s=warm_up_s,
    )
    return (await bench.drive(name, load)).report


def _cost(report: Report) -> float:
    """CPU of a request in units of the reference work of the same run: how fast the machine was is taken off."""
    return own_cpu_ms(report) / (report.reference_cpu_ms or 1.0)
