"""Spans of one process: who is traced, whose child a span is, and what is kept of it."""

from __future__ import annotations

import gc
import itertools

import pytest

from schemas.runtime.process.tracing import Kind, Span, Tracer
from schemas.sampling import sampler_of
from schemas.trace_context import TraceContext, read_traceparent

REQUEST_ID = "019a7c2e-6f4e-7cc1-9a51-3f5d2a1b4c6d"
CLIENTS = TraceContext(b"\1" * 16, b"\2" * 8, is_sampled=True)


def tracer_of(name: str = "always_on", *, spans_max: int = 8) -> Tracer:
    """A tracer whose clock goes on by a nanosecond each time it is read."""
    ticks = itertools.count(1_000)
    sampler = sampler_of(name, 0.0, 10)  # type: ignore[arg-type]
    return Tracer(sampler, lambda: next(ticks), spans_max=spans_max)


def opened(tracer: Tracer, parent: TraceContext | None = None) -> Span:
    context = tracer.arrived(REQUEST_ID, parent, 0.0)
    assert context is not None
    return tracer.open(REQUEST_ID, context, "POST /v1/x", Kind.SERVER, {})


def test_a_request_whose_client_sent_no_trace_begins_one_under_its_own_id() -> None:
    """Whoever has the id of a request has that of its trace."""
    span = opened(tracer_of())

    assert span.trace_id.hex() == REQUEST_ID.replace("-", "")
    assert span.parent_id == b""


def test_a_request_whose_client_is_traced_goes_on_below_it() -> None:
    """In the client's trace, below the client's span."""
    span = opened(tracer_of(), CLIENTS)

    assert (span.trace_id, span.parent_id) == (CLIENTS.trace_id, CLIENTS.span_id)


def test_a_request_that_is_not_sampled_has_no_place_in_a_trace() -> None:
    """Nothing else is done for it."""
    tracer = tracer_of("always_off")

    assert tracer.arrived(REQUEST_ID, CLIENTS, 0.0) is None
    assert tracer.of(REQUEST_ID) is None


def test_what_is_done_for_a_request_is_below_its_open_span() -> None:
    """And says so to whoever it is sent to."""
    tracer = tracer_of()
    span = opened(tracer)
    assert tracer.of(REQUEST_ID) is span
    child = tracer.below(span, "send", Kind.PRODUCER, {})

    assert (child.trace_id, child.parent_id) == (span.trace_id, span.span_id)
    assert read_traceparent(child.traceparent) == TraceContext(
        child.trace_id, child.span_id, is_sampled=True
    )


def test_a_span_that_nobody_holds_any_more_was_never_there() -> None:
    """As that of a record whose partition went to somebody else: nothing is exported, nothing leaks."""
    tracer = tracer_of()
    opened(tracer)
    gc.collect()

    assert tracer.of(REQUEST_ID) is None
    assert not tracer.ended


def test_a_span_is_kept_once_with_its_times_and_what_went_wrong() -> None:
    """A second end does nothing."""
    tracer = tracer_of()
    span = opened(tracer)
    span.end("500")
    span.end()

    (kept,) = tracer.ended
    assert (kept.error, kept.ended_ns > kept.started_ns) == ("500", True)


def test_spans_that_nobody_exports_are_dropped_above_their_bound_and_counted() -> None:
    """Those that came first stay; nobody waits."""
    tracer = tracer_of(spans_max=3)
    spans = [opened(tracer) for _ in range(5)]
    for span in spans:
        span.end()

    assert list(tracer.ended) == spans[:3]
    assert tracer.dropped == 2


@pytest.mark.parametrize(("room", "expected"), [(2, [1, 2]), (1, [2])])
def test_what_was_not_exported_comes_first_again_while_there_is_room(
    room: int, expected: list[int]
) -> None:
    """An export that failed for now gives its spans back."""
    tracer = tracer_of(spans_max=room)
    first, second = opened(tracer), opened(tracer)
    second.end()
    first.ended_ns = 1
    tracer.keep_again(first)

    assert [(first, second).index(span) + 1 for span in tracer.ended] == expected
    assert tracer.dropped == 2 - room
