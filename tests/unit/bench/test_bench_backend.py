"""The bench's backend: what it answers follows from the request, and a driver gets all of it."""

from __future__ import annotations

import json
from decimal import Decimal

import httptools
import httpx
import msgspec
import pytest

from deploy.bench import backend
from deploy.bench.connection import OK, PreparedRequest
from deploy.bench.drivers import cause_in, run_closed, run_open
from deploy.bench.driving import driven
from deploy.bench.load import Load, requests_of
from deploy.bench.report import tokens_of
from deploy.bench.running_backend import bench_backend
from deploy.bench.scenarios import limits


def test_a_model_name_may_ask_for_a_pause() -> None:
    """Only at its end."""
    assert [backend.pause_s(name) for name in ("bench", "bench-100ms", "5ms-x")] == [0.0, 0.1, 0.0]


def test_an_answer_never_has_more_tokens_than_were_allowed() -> None:
    """Its usage says how many."""
    head, _, body = backend.whole("bench", 160, 3).partition(b"\r\n\r\n")

    assert b"content-length: %d" % len(body) in head
    assert json.loads(body)["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "total_tokens": 14,
    }


@pytest.mark.parametrize(
    ("body", "tokens"),
    [(b"{}", backend.DEFAULT_TOKENS), (b'{"max_tokens":5}', 5), (b'{"max_completion_tokens":7,"max_tokens":5}', 7)],
)  # fmt: skip
def test_it_streams_as_many_tokens_as_are_asked_for(body: bytes, tokens: int) -> None:
    """With a bound."""
    assert msgspec.json.decode(body, type=backend.Asked).tokens == tokens
    assert backend.Asked(max_tokens=10**9).tokens == backend.MOST_TOKENS


async def test_drivers_and_backend_agree_about_answers_and_tokens() -> None:
    """Streams and whole answers, closed and open; every event is counted once, wherever it was cut."""
    with bench_backend(ports=2) as running:
        load = Load(
            url=running.urls[1], keys=["k"], model="bench", stream_share=0.5, max_tokens=300
        )
        closed = await run_closed(load.url, requests_of(load), 4, 0.3)
        opened = await run_open(load.url, requests_of(load), 100, 0.3, has_headers=True)

    for run in (closed, opened):
        assert {sample.outcome for sample in run.samples} == {OK}
        assert {tokens_of(sample) for sample in run.samples} == {0, 300}
        assert all(0 < (sample.first_s or 0) <= sample.latency_s for sample in run.samples)
    assert len(opened.samples) == len(opened.send_delays_s) == 30


async def test_an_answer_that_is_no_success_brings_its_cause() -> None:
    """Only where headers are read, and what is no error of OpenAI's form has none."""
    no_json = PreparedRequest(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\n[]",
        is_stream=False,
    )
    with bench_backend() as running:
        telling = await run_open(running.url, [no_json], 20, 0.2, has_headers=True)
        silent = await run_open(running.url, [no_json], 20, 0.2)

    assert {(sample.outcome, sample.cause) for sample in telling.samples} == {
        ("http_400", "invalid_request: no chat completion request")
    }
    assert {(sample.outcome, sample.cause) for sample in silent.samples} == {("http_400", "")}
    assert [cause_in(body) for body in (b"", b"[]", b'{"error":"x"}', b"\xff")] == [""] * 4


async def test_a_closed_loop_ends_after_so_many_requests() -> None:
    """Not one more, however many connections there are."""
    with bench_backend() as running:
        load = Load(url=running.url, keys=["k"], model="bench")
        run = await run_closed(load.url, requests_of(load), 8, 30.0, most=21)

    assert len(run.samples) == 21


async def test_a_driver_brings_everything_back_however_much_it_is() -> None:
    """More than a pipe holds at once."""
    with bench_backend() as running:
        load = Load(url=running.url, keys=["k"], model="bench-300ms", seconds=0.5, rate_per_s=5_000)
        came = await driven(load)

    assert len(came.samples) == len(came.send_delays_s) == 2_500
    assert came.costs["load driver"].cpu_share > 0


def test_what_is_no_request_is_refused() -> None:
    """And a broken one ends its connection."""
    assert backend._REFUSAL.startswith(b"HTTP/1.1 400")
    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(object()).feed_data(b"nonsense\r\n\r\n")


async def test_the_backend_counts_its_calls_by_model() -> None:
    """Who judges limits asks it; what it did not understand is no call."""
    with bench_backend() as running:
        load = Load(url=running.url, keys=["k"], model="counted-1ms")
        done = await run_closed(load.url, requests_of(load), 2, 5.0, most=7)
        async with httpx.AsyncClient(trust_env=False) as client:
            refused = await client.post(f"{running.url}/chat/completions", content=b"no JSON")
            calls = (await client.get(f"{running.url}/calls")).json()

    assert refused.status_code == 400
    assert len(done.samples) == 7
    assert calls == {"counted-1ms": 7}


def test_what_a_budget_is_tried_with_costs_what_is_held_for_it() -> None:
    """Or the number of calls that fit would not be known beforehand."""
    _, _, body = backend.whole("limits-budget-0", 200, limits.TOKENS).partition(b"\r\n\r\n")
    budget = next(case for case in limits.CASES if case.name == "budget")
    (stated,) = (budget.limits or {})["budgets"]
    made = json.loads(body)["usage"]["completion_tokens"]

    assert made == limits.TOKENS
    assert Decimal(limits.PRICES["input_usd_per_mtok"]) == 0
    each = made * Decimal(limits.PRICES["output_usd_per_mtok"]) / 1_000_000
    assert Decimal(stated["usd"]) == limits.STATED * each
