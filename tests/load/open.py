"""Open loop: requests leave at planned times, whatever the server does.

`python -m tests.load.open --url U --key K --rate 50 --seconds 20`. Latency counts from the planned
time, so a stall shows in every request that should have been sent in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import uvloop

from tests.load.connection import Connection, PreparedRequest
from tests.load.options import REQUEST_TIMEOUT_S, Run, measure, parser, requests_of, show
from tests.load.report import Sample

MOST_CONNECTIONS = 512


@dataclass
class _Pool:
    """Connections by need, up to the bound; who comes later waits for one to be free."""

    url: str
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_CONNECTIONS))
    idle: list[Connection] = field(default_factory=list)

    async def exchange(self, request: PreparedRequest) -> str:
        connection = self.idle.pop() if self.idle else Connection(self.url)
        try:
            return await connection.exchange(request, REQUEST_TIMEOUT_S)
        finally:
            self.idle.append(connection)


async def run_open(
    url: str, requests: Sequence[PreparedRequest], rate_per_s: float, seconds: float
) -> Run:
    """Send `rate_per_s` requests each second for `seconds`, then wait for the answers."""
    pool = _Pool(url)
    samples: list[Sample] = []
    delays_s: list[float] = []

    async def send(number: int, planned_s: float) -> None:
        async with pool.slots:
            delays_s.append(perf_counter() - planned_s)
            outcome = await pool.exchange(requests[number % len(requests)])
        samples.append(Sample(outcome, perf_counter() - planned_s))

    start_s = perf_counter()
    async with asyncio.TaskGroup() as sending:
        for number in range(round(rate_per_s * seconds)):
            planned_s = start_s + number / rate_per_s
            await asyncio.sleep(max(0.0, planned_s - perf_counter()))
            sending.create_task(send(number, planned_s))
    for connection in pool.idle:
        connection.close()
    return Run(samples, delays_s)


def main() -> None:
    """Read the command line, run, report."""
    options = parser(__doc__ or "")
    options.add_argument("--rate", type=float, default=50.0, help="requests per second")
    chosen = options.parse_args()
    requests = requests_of(chosen)
    report = uvloop.run(
        measure(
            f"open {chosen.rate:g}/s",
            lambda: run_open(chosen.url, requests, chosen.rate, chosen.seconds),
            chosen.pids,
        )
    )
    show(report, as_json=chosen.json)


if __name__ == "__main__":
    main()
