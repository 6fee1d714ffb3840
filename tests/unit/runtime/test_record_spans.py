"""Spans of records and of what stores are asked, and how the context goes on in headers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.events import RecordRef
from schemas.failures import Transient
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.spans import receiving, sending
from schemas.runtime.valkey.spans import calling, replying
from schemas.trace_context import read_traceparent
from tests.unit.runtime.test_tracing import REQUEST_ID, opened, tracer_of

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
HEADERS = (("request_id", REQUEST_ID.encode()), ("traceparent", TRACE + b"00"))


def outgoing(headers: Any = HEADERS) -> Outgoing:
    return Outgoing("inference.requests.v1", b"acme", b"value", headers, 2)


def delivered_record(traceparent: bytes, request_id: bytes = REQUEST_ID.encode()) -> Record:
    headers = (("traceparent", traceparent), ("request_id", request_id))
    fetched = SimpleNamespace(
        headers=headers, topic="t", partition=3, offset=41, timestamp=7, key=b"k", value=b"v"
    )
    return Record(fetched, 1, lambda _: None, lambda *_: None)


async def test_a_record_of_a_traced_request_carries_the_context_of_its_own_span() -> None:
    """In place of its client's, and of nothing else; the span says where it stands once the broker has it."""
    tracer = tracer_of()
    request = opened(tracer)
    delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
    sent = sending(tracer, outgoing(), delivered)
    delivered.set_result(RecordRef(topic="inference.requests.v1", partition=2, offset=9))
    await asyncio.sleep(0)

    (span,) = tracer.ended
    carried = dict(sent.headers)["traceparent"]
    assert (sent.topic, sent.key, sent.value, sent.partition) == ("inference.requests.v1", b"acme", b"value", 2)  # fmt: skip
    assert carried == span.traceparent
    assert [name for name, _ in sent.headers] == ["request_id", "traceparent"]
    assert (span.name, span.parent_id) == ("send inference.requests.v1", request.span_id)
    assert span.attributes["messaging.kafka.offset"] == 9
    assert span.error is None


async def test_a_record_that_does_not_arrive_says_why() -> None:
    """The caller hears it all the same."""
    tracer = tracer_of()
    request = opened(tracer)
    loop = asyncio.get_running_loop()
    tries: list[asyncio.Future[RecordRef]] = [loop.create_future() for _ in range(2)]
    for delivered in tries:
        sending(tracer, outgoing(), delivered)
    tries[0].cancel()
    tries[1].set_exception(Transient())
    await asyncio.wait(tries)
    await asyncio.sleep(0)

    assert [span.error for span in tracer.ended] == ["cancelled", "Transient"]
    assert {span.parent_id for span in tracer.ended} == {request.span_id}


@pytest.mark.parametrize("headers", [HEADERS, (), (("request_id", b"\xff"),)])
async def test_a_record_of_any_other_request_goes_out_as_it_is(headers: Any) -> None:
    """The same object, and no span."""
    tracer, record = tracer_of(), outgoing(headers)
    delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()

    assert sending(tracer, record, delivered) is record
    assert not tracer.ended


def test_whoever_reads_a_record_goes_on_where_its_sender_stands() -> None:
    """From its delivery until it is finished."""
    tracer = tracer_of()
    record = delivered_record(TRACE + b"01")
    receiving(tracer, "limiter", record)
    span = tracer.of(REQUEST_ID)
    record.finish()
    record.finish()

    context = read_traceparent(TRACE + b"01")
    assert span is not None
    assert context is not None
    assert list(tracer.ended) == [span]
    assert (span.trace_id, span.parent_id) == (context.trace_id, context.span_id)
    assert span.name == "process t"
    assert span.attributes["messaging.consumer.group.name"] == "limiter"


@pytest.mark.parametrize("flags", [b"00", b"xx"])
def test_a_record_whose_trace_nobody_records_has_no_span(flags: bytes) -> None:
    """Its flag was written by ingress, whatever its client sent."""
    tracer, record = tracer_of(), delivered_record(TRACE + flags)
    receiving(tracer, "limiter", record)
    record.finish()

    assert (record.span, list(tracer.ended)) == (None, [])


def test_a_record_that_is_held_for_a_newer_version_has_no_span() -> None:
    """Whoever handles it has."""
    tracer, record = tracer_of(), delivered_record(TRACE + b"01")
    receiving(tracer, "limiter", record)
    record.hold("newer")

    assert not tracer.ended


@pytest.mark.parametrize("asks", [calling, replying])
async def test_what_a_store_is_asked_for_a_traced_request_is_a_span_of_it(asks: Any) -> None:
    """Until it answers, whatever it answers; of another request nothing is noted."""
    tracer = tracer_of()
    request = opened(tracer)
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(4)]
    for answer in answers[:3]:
        asks(tracer, REQUEST_ID, "tg1_admit", answer)
    asks(tracer, "another", "tg1_admit", answers[3])
    answers[0].set_result(b"{}")
    answers[1].set_exception(Transient())
    answers[2].cancel()
    answers[3].set_result(b"{}")
    await asyncio.wait(answers)
    await asyncio.sleep(0)

    assert [span.error for span in tracer.ended] == [None, "Transient", "cancelled"]
    assert {span.parent_id for span in tracer.ended} == {request.span_id}
