"""How long a decision of the ledger takes in the store itself, for each of its functions, at the open loop's rate."""

from __future__ import annotations

from deploy.bench.bench import Bench, Unmeasurable
from deploy.bench.decision_times import durations_s, noted, watched_store
from deploy.bench.figures import Chart, Figure, Result
from deploy.bench.report import Latency, latency

_SECONDS = 12.0
_MANY = 100
"""Functions that were called less often have no p99."""


async def run(bench: Bench) -> Result:
    """Drive a closed loop of 64, so that calls meet each other, and read the store's slow log."""
    stack = bench.target.stack
    if stack is None:
        raise Unmeasurable(
            "the ledger's own clock is read on a stack of the bench's own: leave out --url"
        )
    async with watched_store(stack.ledger_url) as store:
        load = bench.load(loop="closed", seconds=bench.seconds(_SECONDS))
        found = await bench.drive("ledger", load)
        entries = await noted(store)
    times = {name: latency(each) for name, each in sorted(durations_s(entries).items())}
    known = {name: spread for name, spread in times.items() if spread is not None}
    slowest = max((s.p99_ms for s in known.values() if s.samples >= _MANY), default=None)
    if slowest is None:
        raise Unmeasurable("the ledger was asked too seldom for a p99")
    bars = [(name, spread.p99_ms) for name, spread in known.items() if spread.samples >= _MANY]
    return Result(
        "ledger",
        [Figure("ledger.p99", slowest)],
        [found.report],
        [Chart("p99 of a decision in the ledger", "function", "ms", bars, "bars")],
        [_line(name, spread) for name, spread in known.items()],
        has_failed=bool(found.report.errors),
    )


def _line(name: str, spread: Latency) -> str:
    return (
        f"{name}: p50 {spread.p50_ms:.3f} ms, p99 {spread.p99_ms:.3f} ms, max {spread.max_ms:.3f} ms"
        f" ({spread.samples} calls)"
    )
