"""How many tokens are relayed each second over all streams: 20 streams, each as fast as its backend writes."""

from __future__ import annotations

import msgspec

from deploy.bench.bench import Bench, own_cpu_ms
from deploy.bench.figures import Figure, Result
from deploy.bench.report import tokens_of

_STREAMS = 20
_TOKENS = 1_000
_WARM_UP_TOKENS = 200
_WARM_UP_S = 2.0
_SECONDS = 10.0


async def run(bench: Bench) -> Result:
    """A closed loop of long streams, each to its end; every event is one token."""
    load = bench.load(
        loop="closed",
        connections=_STREAMS,
        seconds=bench.seconds(_WARM_UP_S),
        stream_share=1.0,
        max_tokens=_WARM_UP_TOKENS,
    )
    await bench.drive("relay, warming up", load)
    longer = {"seconds": bench.seconds(_SECONDS), "max_tokens": _TOKENS}
    found = await bench.drive("relay", msgspec.structs.replace(load, **longer))
    report = found.report
    figures = [Figure("relay.tokens", report.tokens_per_s)]
    tokens = sum(map(tokens_of, found.samples))
    if bench.target.pids and tokens:
        per_token_us = own_cpu_ms(report) * len(found.samples) / tokens * 1_000
        figures.append(Figure("relay.cpu", per_token_us, "CPU per token, our processes", "us"))
    return Result("relay", figures, [report], has_failed=bool(report.errors))
