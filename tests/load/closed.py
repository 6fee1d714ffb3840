"""Closed loop: a fixed number of connections, each sending its next request after an answer.

`python -m tests.load.closed --url U --key K --connections 64 --seconds 10`. It finds the highest
rate a server sustains; it slows down with the server, so judge latency by the open loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import cycle, islice
from time import perf_counter

import uvloop

from tests.load.connection import Connection, PreparedRequest
from tests.load.options import REQUEST_TIMEOUT_S, Run, measure, parser, requests_of, show
from tests.load.report import Sample


async def run_closed(
    url: str, requests: Sequence[PreparedRequest], connections: int, seconds: float
) -> Run:
    """Keep `connections` requests in flight for `seconds`; those then in flight are waited for."""
    samples: list[Sample] = []
    end_s = perf_counter() + seconds

    async def send_until_end(first: int) -> None:
        connection = Connection(url)
        try:
            for request in islice(cycle(requests), first, None):
                sent_s = perf_counter()
                if sent_s >= end_s:
                    return
                outcome = await connection.exchange(request, REQUEST_TIMEOUT_S)
                samples.append(Sample(outcome, perf_counter() - sent_s))
        finally:
            connection.close()

    async with asyncio.TaskGroup() as users:
        for number in range(connections):
            users.create_task(send_until_end(number % len(requests)))
    return Run(samples)


def main() -> None:
    """Read the command line, run, report."""
    options = parser(__doc__ or "")
    options.add_argument("--connections", type=int, default=64)
    chosen = options.parse_args()
    requests = requests_of(chosen)
    report = uvloop.run(
        measure(
            f"closed {chosen.connections}",
            lambda: run_closed(chosen.url, requests, chosen.connections, chosen.seconds),
            chosen.pids,
        )
    )
    show(report, as_json=chosen.json)


if __name__ == "__main__":
    main()
