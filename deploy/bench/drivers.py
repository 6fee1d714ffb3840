"""The two drivers of a load: a closed loop of connections, and an open loop that sends as planned.

A closed loop slows down with the server and finds the highest rate that it sustains; latency is judged by the
open loop, whose latencies count from the planned time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from time import perf_counter
from typing import Final

import msgspec

from deploy.bench import arrivals
from deploy.bench.connection import Connection, PreparedRequest, TellingConnection
from deploy.bench.report import Sample
from schemas.error_bodies import OpenAIErrorResponse
from schemas.runtime.process.clock import Clock

REQUEST_TIMEOUT_S: Final = 30.0
MOST_CONNECTIONS: Final = 512
_CLOCK: Final = Clock()


@dataclass(frozen=True, slots=True)
class Run:
    """What a driver brings back: its samples, and how late it sent (open loop only)."""

    samples: Sequence[Sample]
    send_delays_s: Sequence[float] = ()


async def run_closed(
    url: str,
    requests: Sequence[PreparedRequest],
    connections: int,
    seconds: float,
    timeout_s: float = REQUEST_TIMEOUT_S,
    most: int | None = None,
) -> Run:
    """Keep `connections` requests in flight for `seconds`, `most` in all; those then in flight are waited for."""
    samples: list[Sample] = []
    start_s = perf_counter()
    left = most

    async def send_until_end(first: int) -> None:
        nonlocal left
        connection = Connection(url)
        try:
            for request in islice(cycle(requests), first, None):
                sent_s = perf_counter()
                if sent_s >= start_s + seconds or left == 0:
                    return
                left = None if left is None else left - 1
                outcome = await connection.exchange(request, timeout_s)
                samples.append(_sample(outcome, connection, sent_s, start_s))
        finally:
            connection.close()

    async with asyncio.TaskGroup() as users:
        for number in range(connections):
            users.create_task(send_until_end(number % len(requests)))
    return Run(samples)


@dataclass
class _Pool:
    """Connections by need, up to the bound; who comes later waits for one to be free."""

    url: str
    most: int
    has_headers: bool
    idle: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.most)

    def connection(self) -> Connection:
        if self.idle:
            return self.idle.pop()
        return TellingConnection(self.url) if self.has_headers else Connection(self.url)


async def run_open(
    url: str,
    requests: Sequence[PreparedRequest],
    rate_per_s: float,
    seconds: float,
    *,
    kind: str = arrivals.CONSTANT,
    seed: int = 1,
    timeout_s: float = REQUEST_TIMEOUT_S,
    most_connections: int = MOST_CONNECTIONS,
    has_headers: bool = False,
) -> Run:
    """Send `rate_per_s` requests each second for `seconds`, then wait for the answers."""
    pool = _Pool(url, most_connections, has_headers)
    plan_s = arrivals.planned_s(kind, rate_per_s, seconds, seed)
    samples: list[Sample] = []
    sent_s: list[float] = [0.0] * len(plan_s)
    start_s = perf_counter()

    async def send(number: int) -> None:
        async with pool.slots:
            sent_s[number] = perf_counter() - start_s
            connection = pool.connection()
            outcome = await connection.exchange(requests[number % len(requests)], timeout_s)
            planned_s = start_s + plan_s[number]
            samples.append(_sample(outcome, connection, planned_s, start_s))
            pool.idle.append(connection)

    async with asyncio.TaskGroup() as sending:
        for number, planned_s in enumerate(plan_s):
            await asyncio.sleep(max(0.0, start_s + planned_s - perf_counter()))
            sending.create_task(send(number))
    for connection in pool.idle:
        connection.close()
    return Run(samples, arrivals.lateness_s(plan_s, sent_s))


def _sample(outcome: str, connection: Connection, planned_s: float, start_s: float) -> Sample:
    request_id, ended_ms, cause = "", 0, ""
    if isinstance(connection, TellingConnection):
        request_id, ended_ms = connection.request_id, _CLOCK.local_ms()
        cause = cause_in(connection.error_body) if outcome.startswith("http_") else ""
        if outcome in _REFUSED and not connection.has_retry_after:
            outcome += UNSTATED
    return Sample(
        outcome,
        perf_counter() - planned_s,
        planned_s - start_s,
        None if connection.first_s is None else connection.first_s - planned_s,
        connection.events,
        request_id,
        ended_ms,
        cause,
    )


def cause_in(body: bytes) -> str:
    """Code and message of an error in OpenAI's form; empty for any other body. Pure."""
    try:
        error = msgspec.json.decode(body, type=OpenAIErrorResponse)["error"]
    except msgspec.DecodeError:
        return ""
    return f"{error['code']}: {error['message']}"


UNSTATED: Final = "_without_retry_after"
_REFUSED: Final = ("http_429", "http_503")
