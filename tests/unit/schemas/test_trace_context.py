"""Trace contexts as they stand in headers."""

from __future__ import annotations

import pytest

from schemas.trace_context import (
    TraceContext,
    read_traceparent,
    sampled_context,
    trace_id_of_request,
    traceparent_of,
    unsampled,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01".encode()
UNSAMPLED = f"00-{TRACE}-{SPAN}-00".encode()


def test_a_context_is_read_as_it_was_written() -> None:
    """Ids as bytes, and the flag."""
    context = TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), is_sampled=True)

    assert read_traceparent(SAMPLED) == context
    assert traceparent_of(context.trace_id, context.span_id) == SAMPLED


@pytest.mark.parametrize(
    ("flags", "is_sampled"), [("00", 0), ("01", 1), ("02", 0), ("03", 1), ("ff", 1)]
)
def test_only_the_lowest_flag_says_that_it_is_sampled(flags: str, is_sampled: int) -> None:
    """Others are for later versions of W3C's."""
    context = read_traceparent(f"00-{TRACE}-{SPAN}-{flags}".encode())

    assert context is not None
    assert context.is_sampled == is_sampled


@pytest.mark.parametrize(
    "value", [b"", b"odd", SAMPLED.upper(), SAMPLED + b"-", b"ff" + SAMPLED[2:]]
)
def test_what_is_no_context_is_none(value: bytes) -> None:
    """W3C says to ignore it."""
    assert read_traceparent(value) is None


def test_of_a_record_only_a_sampled_context_is_read() -> None:
    """Wherever it stands among the headers."""
    others = [("ce_id", b"x"), ("request_id", b"r")]

    assert sampled_context([*others, ("traceparent", SAMPLED)]) == read_traceparent(SAMPLED)
    assert sampled_context([("traceparent", UNSAMPLED), *others]) is None
    assert sampled_context([("traceparent", b"odd1"), *others]) is None
    assert sampled_context(others) is None


def test_an_unsampled_context_is_the_same_place_without_the_flag() -> None:
    """So that logs still name the trace."""
    assert unsampled(SAMPLED) == UNSAMPLED == unsampled(UNSAMPLED)


def test_the_trace_of_a_request_without_one_has_its_id() -> None:
    """Both are 128 bits."""
    request_id = "019a7c2e-6f4e-7cc1-9a51-3f5d2a1b4c6d"

    assert trace_id_of_request(request_id).hex() == request_id.replace("-", "")
