"""The load drivers tell the truth: about errors, about stalls and about rates."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from deploy.bench.connection import (
    CONNECTION_LOST,
    NOT_CONNECTED,
    OK,
    STREAM_BROKEN,
    TIMEOUT,
    Connection,
)
from deploy.bench.drivers import run_closed, run_open
from deploy.bench.report import Latency, Sample, latency, make_report
from deploy.bench.requests import prepare, prepare_mix
from tests.support.fakes.running_backend import StartBackend

pytestmark = pytest.mark.timeout(30)
MODEL = "fake-1"


def test_percentiles_are_nearest_ranks() -> None:
    """A percentile is a sample that was seen, never an interpolation."""
    assert latency(n / 1_000 for n in range(1, 101)) == Latency(100, 50, 90, 99, 100, 95)
    assert latency([0.002]) == Latency(1, 2, 2, 2, 2, 2)
    assert latency([]) is None


def test_timeouts_count_in_the_latency_and_errors_by_kind() -> None:
    """A quick error must not flatter the percentiles; a timeout must worsen them."""
    samples = [Sample(OK, 0.1), Sample(TIMEOUT, 30.0), Sample("http_429", 0.001)]
    report = make_report("mixed", samples, 10.0, {})

    assert report.latency == Latency(2, 100, 30_000, 30_000, 30_000, 30_000)
    assert report.errors == {TIMEOUT: 1, "http_429": 1}
    assert report.requests_per_s == 0.1


async def test_closed_loop_agrees_with_the_backend_about_its_calls(
    start_backend: StartBackend,
) -> None:
    """As many calls arrived as samples were taken, streams among them."""
    backend = start_backend("closed")
    run = await run_closed(backend.url, prepare_mix(backend.url, "k", MODEL, 0.5), 4, 0.3)

    assert {sample.outcome for sample in run.samples} == {OK}
    calls = backend.calls()
    assert len(calls) == len(run.samples)
    assert {call.start.stream for call in calls} == {True, False}


@pytest.mark.parametrize(
    ("content", "is_stream", "outcome"),
    [
        ('{"fake":{"mode":"500"}}', False, "http_500"),
        ('{"fake":{"mode":"reset"}}', False, CONNECTION_LOST),
        ('{"fake":{"mode":"reset"}}', True, CONNECTION_LOST),
        ('{"fake":{"mode":"hang"}}', True, TIMEOUT),
        ("hello", True, OK),
    ],
)
async def test_each_way_to_fail_has_its_name(
    start_backend: StartBackend, content: str, is_stream: bool, outcome: str
) -> None:
    """The outcome names what went wrong; the same connection then works again."""
    url = start_backend("outcomes").url
    connection = Connection(url)
    asked = prepare(url, "k", MODEL, content, is_stream=is_stream)

    assert await connection.exchange(asked, 0.5) == outcome
    # The answer to a plain request has no end-of-stream mark, so it stands for a cut stream.
    plain = prepare(url, "k", MODEL, "hello", is_stream=False)
    assert await connection.exchange(plain, 5.0) == OK
    cut = type(plain)(plain.data, is_stream=True)
    assert await connection.exchange(cut, 5.0) == STREAM_BROKEN
    connection.close()


async def test_no_server_is_an_outcome() -> None:
    """A refused connection is counted like any other failure."""
    url = "http://127.0.0.1:1/v1"
    asked = prepare(url, "k", MODEL, "hello", is_stream=False)

    assert await Connection(url).exchange(asked, 1.0) == NOT_CONNECTED


async def test_open_loop_shows_a_stall_of_the_server(start_backend: StartBackend) -> None:
    """All requests planned during a stall wait for its end, and the percentiles say so."""
    backend = start_backend("stalled")
    requests = prepare_mix(backend.url, "k", MODEL, 0.0)
    running = asyncio.create_task(run_open(backend.url, requests, 50, 2.0))
    await asyncio.sleep(0.5)
    os.kill(backend.pid, signal.SIGSTOP)
    await asyncio.sleep(0.8)
    os.kill(backend.pid, signal.SIGCONT)
    run = await running

    assert [sample.outcome for sample in run.samples] == [OK] * 100
    spread = latency(sample.latency_s for sample in run.samples)
    assert spread is not None
    assert spread.p99_ms > 600
    assert spread.p90_ms > 400
