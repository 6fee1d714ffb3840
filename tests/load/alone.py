"""Requests one at a time: nothing is batched with another, so what each costs in counts is nearly a whole number."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import cycle, islice
from time import perf_counter

from deploy.bench.connection import Connection, PreparedRequest
from deploy.bench.drivers import REQUEST_TIMEOUT_S, Run
from deploy.bench.report import Sample


async def run_alone(
    url: str, requests: Sequence[PreparedRequest], count: int, pause_s: float = 0.0
) -> Run:
    """Send so many over one connection, each so long after the answer to the one before."""
    connection = Connection(url)
    samples: list[Sample] = []
    try:
        for request in islice(cycle(requests), count):
            sent_s = perf_counter()
            outcome = await connection.exchange(request, REQUEST_TIMEOUT_S)
            samples.append(Sample(outcome, perf_counter() - sent_s))
            await asyncio.sleep(pause_s)
    finally:
        connection.close()
    return Run(samples)
