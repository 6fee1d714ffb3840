"""A receiver that is away, slow or refuses costs spans and nothing more; one that is there gets all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from schemas.runtime.process import span_export
from schemas.runtime.process.event_log import NAMESPACE
from schemas.runtime.process.span_export import SpanExporter
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Tracer
from tests.support.otlp_receiver import otlp_receiver, rejecting
from tests.unit.runtime.test_otlp import RESOURCE
from tests.unit.runtime.test_tracing import opened, tracer_of


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are hundredths."""
    for name in ("_TOGETHER_S", "_PAUSE_FIRST_S"):
        monkeypatch.setattr(span_export, name, 0.01)
    monkeypatch.setattr(span_export, "_PAUSE_MAX_S", 0.02)


@asynccontextmanager
async def exporting(
    url: str, tracer: Tracer, headers: dict[str, str] | None = None
) -> AsyncIterator[SpanExporter]:
    exporter = SpanExporter(tracer, f"{url}/v1/traces", headers or {}, RESOURCE)
    running = asyncio.create_task(exporter.run())
    try:
        yield exporter
    finally:
        running.cancel()
        await exporter.stop()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110  # what a thread of the receiver does has no event
            await asyncio.sleep(0.005)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.msg.event.name for record in caplog.records if hasattr(record.msg, "event")]


def totals(exporter: SpanExporter) -> dict[str, int]:
    metrics = Metrics()
    exporter.expose(metrics)
    lines = [line for line in _page(metrics).splitlines() if line.startswith("tallygate_spans")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in lines}


def _page(metrics: Metrics) -> str:
    return metrics.page().decode()


async def test_all_spans_arrive_in_bounded_calls_with_the_headers_that_were_asked_for() -> None:
    """More than fit into one call."""
    with otlp_receiver() as receiver:
        tracer = tracer_of(spans_max=1_000)
        async with exporting(receiver.url, tracer, {"authorization": "Bearer x"}) as exporter:
            for _ in range(300):
                opened(tracer).end()
            await until(lambda: totals(exporter)["exported"] == 300)

    assert totals(exporter) == {"exported": 300, "refused": 0, "dropped": 0}
    assert len(receiver.bodies) == 3
    assert {head["authorization"] for head in receiver.headers} == {"Bearer x"}
    assert {head["content-type"] for head in receiver.headers} == {"application/x-protobuf"}


async def test_what_ended_last_is_exported_at_the_stop() -> None:
    """Though nobody waited for it."""
    with otlp_receiver() as receiver:
        tracer = tracer_of()
        exporter = SpanExporter(tracer, f"{receiver.url}/v1/traces", {}, RESOURCE)
        opened(tracer).end()
        await exporter.stop()

    assert len(receiver.spans) == 1


async def test_while_the_receiver_is_away_spans_wait_within_their_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two lines tell of the outage; what waited arrives, what had no room is counted."""
    caplog.set_level(logging.INFO, NAMESPACE)
    with otlp_receiver() as receiver:
        receiver.status = 503
        tracer = tracer_of(spans_max=4)
        async with exporting(receiver.url, tracer) as exporter:
            for _ in range(6):
                opened(tracer).end()
            await until(lambda: len(receiver.headers) >= 4)
            receiver.status = 200
            await until(lambda: totals(exporter)["exported"] == 4)

    assert totals(exporter) == {"exported": 4, "refused": 0, "dropped": 2}
    assert events(caplog) == ["SPANS_NOT_TAKEN", "SPANS_TAKEN_AGAIN"]


async def test_a_port_where_nobody_listens_and_one_that_hangs_are_away_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, however often it is tried; the tracer takes spans meanwhile."""
    monkeypatch.setattr(span_export, "_WITHIN_S", 0.1)
    with otlp_receiver() as receiver:
        gone = receiver.url
    tracer = tracer_of()
    async with exporting(gone, tracer):
        opened(tracer).end()
        await asyncio.sleep(0.2)
        assert len(tracer.ended) == 1
    with otlp_receiver() as receiver:
        receiver.delay_s = 1.0
        tracer = tracer_of()
        async with exporting(receiver.url, tracer):
            opened(tracer).end()
            await until(lambda: len(tracer.ended) == 0)
            opened(tracer).end()
            await until(lambda: len(tracer.ended) == 2)

    assert events(caplog) == ["SPANS_NOT_TAKEN", "SPANS_NOT_TAKEN"]


async def test_a_receiver_that_refuses_is_told_of_once_and_its_spans_are_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As one that wants a key: the same again would be refused again."""
    with otlp_receiver() as receiver:
        receiver.status = 401
        tracer = tracer_of()
        async with exporting(receiver.url, tracer) as exporter:
            for count in (1, 2):
                opened(tracer).end()
                await until(lambda count=count: len(receiver.headers) == count)  # type: ignore[misc]
            receiver.status = 200
            opened(tracer).end()
            await until(lambda: totals(exporter)["exported"] == 1)

    assert totals(exporter) == {"exported": 1, "refused": 2, "dropped": 0}
    assert events(caplog) == ["SPANS_REFUSED"]


@pytest.mark.parametrize("answer", [rejecting(1), b"x" * 1_000_000])
async def test_any_answer_of_a_receiver_is_read_within_bounds(answer: bytes) -> None:
    """One that took a part says so; a page of something else is no trouble."""
    with otlp_receiver() as receiver:
        receiver.answer = answer
        tracer = tracer_of()
        async with exporting(receiver.url, tracer) as exporter:
            for expected in (1, 2):
                opened(tracer).end()
                await until(lambda expected=expected: len(receiver.spans) == expected)  # type: ignore[misc]
            await until(lambda: sum(totals(exporter).values()) == 2)

    assert totals(exporter)["refused"] == (2 if answer == rejecting(1) else 0)
