"""Offers load of one tenant at a fixed rate, and keeps every answer with its time.

An open loop: requests leave when planned, whatever the server does. Several run side by side, one
per tenant, so that what one does to another can be told apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter

from deploy.bench.connection import OK, Connection, PreparedRequest
from deploy.bench.report import Latency, latency

REQUEST_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was planned, how it ended, and after how long."""

    planned_s: float
    outcome: str
    latency_s: float


@dataclass(frozen=True, slots=True)
class Offered:
    """All answers of one tenant in one window."""

    answers: Sequence[Answer]
    seconds: float
    resent: int = 0
    """Sent again, because the server had closed the connection or took none."""

    @property
    def good(self) -> list[Answer]:
        """Those answered 200 and whole."""
        return [answer for answer in self.answers if answer.outcome == OK]

    @property
    def failures(self) -> dict[str, int]:
        """How many ended otherwise, by outcome."""
        kinds = [answer.outcome for answer in self.answers if answer.outcome != OK]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    @property
    def goodput_per_s(self) -> float:
        """Good answers per second of the window."""
        return len(self.good) / self.seconds

    @property
    def spread(self) -> Latency | None:
        """Latency of the good ones."""
        return latency(answer.latency_s for answer in self.good)

    @property
    def refusal_spread(self) -> Latency | None:
        """Latency of the answers that refuse."""
        refused = [a for a in self.answers if a.outcome in ("http_429", "http_503")]
        return latency(answer.latency_s for answer in refused)

    def longest_gap_s(self) -> float:
        """The longest time without a good answer."""
        ends = sorted(a.planned_s + a.latency_s for a in self.good)
        return max((after - before for before, after in pairwise(ends)), default=0)


async def offer(
    urls: Sequence[str],
    requests: Sequence[PreparedRequest],
    rate_per_s: float,
    seconds: float,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> Offered:
    """Send at the rate for so long, in turn to each address, and wait for all answers.

    A connection that cannot be made, or that ends before its request's answer began because the server
    closed it while idle, is tried at the next address, as a load balancer would.
    """
    idle: dict[str, list[Connection]] = {url: [] for url in urls}
    answers: list[Answer] = []
    resent = 0

    async def send(number: int, planned_s: float) -> None:
        nonlocal resent
        outcome = ""
        for attempt in range(2 * len(urls)):
            url = urls[(number + attempt) % len(urls)]
            connection = idle[url].pop() if idle[url] else Connection(url)
            outcome = await connection.exchange(requests[number % len(requests)], timeout_s)
            if outcome == "not_connected" or connection.was_closed_idle:
                resent += 1
                continue
            idle[url].append(connection)
            break
        answers.append(Answer(planned_s, outcome, perf_counter() - planned_s))

    start_s = perf_counter()
    async with asyncio.TaskGroup() as sending:
        for number in range(round(rate_per_s * seconds)):
            planned_s = start_s + number / rate_per_s
            await asyncio.sleep(max(0.0, planned_s - perf_counter()))
            sending.create_task(send(number, planned_s))
    for connections in idle.values():
        for connection in connections:
            connection.close()
    return Offered(answers, seconds, resent)


def ratio_of_pairs(pairs: Sequence[tuple[float, float]]) -> str:
    """``with / without`` of interleaved pairs: the median, and the spread."""
    ratios = [with_it / without for without, with_it in pairs if without]
    if not ratios:
        return "no pairs"
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs)"
