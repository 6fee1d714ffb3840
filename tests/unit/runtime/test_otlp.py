"""Spans as OTLP messages, read back with OpenTelemetry's own."""

from __future__ import annotations

from schemas.runtime.process.otlp import export_request, rejected_spans
from schemas.runtime.process.tracing import Kind, Span, Tracer
from tests.support.otlp_receiver import Receiver, rejecting
from tests.unit.runtime.test_tracing import opened, tracer_of

RESOURCE = {"service.name": "ingress", "service.instance.id": "ingress-0"}


def _ended(tracer: Tracer, **attributes: str | float | bool) -> Span:
    span = tracer.below(opened(tracer), "work", Kind.CLIENT, dict(attributes))
    span.end()
    return span


def test_a_span_says_all_that_is_known_of_it() -> None:
    """Ids, kind, times, attributes by their types, whose it is."""
    receiver, tracer = Receiver(""), tracer_of()
    span = _ended(tracer, text="ä", whole=2**62, part=0.5, yes=True)
    receiver.take(export_request([span], RESOURCE))

    (seen,) = receiver.spans
    assert (seen.process, seen.instance) == ("ingress", "ingress-0")
    assert (seen.name, seen.kind, seen.is_error) == ("work", "client", False)
    assert (seen.trace_id, seen.span_id) == (span.trace_id.hex(), span.span_id.hex())
    assert seen.parent_id == span.parent_id.hex()
    assert (seen.started_ns, seen.ended_ns) == (span.started_ns, span.ended_ns)
    assert seen.attributes == {"text": "ä", "whole": 2**62, "part": 0.5, "yes": True}


def test_what_went_wrong_is_an_error_with_its_type() -> None:
    """As the conventions have it."""
    receiver, tracer = Receiver(""), tracer_of()
    span = opened(tracer)
    span.end("timeout")
    receiver.take(export_request([span], RESOURCE))

    (seen,) = receiver.spans
    assert (seen.is_error, seen.attributes) == (True, {"error.type": "timeout"})


def test_a_span_never_ends_before_it_began() -> None:
    """Though the clock was set back meanwhile."""
    receiver, span = Receiver(""), _ended(tracer_of())
    span.ended_ns = span.started_ns - 5
    receiver.take(export_request([span], RESOURCE))

    assert receiver.spans[0].ended_ns == receiver.spans[0].started_ns


def test_a_span_that_no_message_can_hold_is_left_out_alone() -> None:
    """A client may send half a character in a path."""
    receiver, tracer = Receiver(""), tracer_of()
    spans = [_ended(tracer), _ended(tracer, path="\ud800"), _ended(tracer, count=2**70)]
    receiver.take(export_request(spans, RESOURCE))

    assert [seen.span_id for seen in receiver.spans] == [spans[0].span_id.hex()]


def test_how_many_were_rejected_is_read_from_any_answer() -> None:
    """None where it cannot be read."""
    assert rejected_spans(rejecting(3)) == 3
    assert rejected_spans(b"") == 0
    assert rejected_spans(b"<html>") == 0
