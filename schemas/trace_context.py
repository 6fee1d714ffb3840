"""The trace context of a request: which trace it belongs to, and which span it came from. Pure.

It travels as W3C's ``traceparent``: in the headers of HTTP and of records in the log. A request whose client sent
none has its own id as the id of its trace: both are 128 bits, and the last 62 are random, as W3C wants it.
Source: W3C Trace Context, sections 3.2 and 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

__all__ = [
    "RANDOM_BITS",
    "TraceContext",
    "read_traceparent",
    "sampled_context",
    "trace_id_of_request",
    "traceparent_of",
    "unsampled",
]

RANDOM_BITS: Final = 56
"""Of the end of an id, which W3C says are random."""
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})"
)
_SAMPLED: Final = 1
_FLAGS_CHARS: Final = 2


class TraceContext(msgspec.Struct, frozen=True):
    """A place in a trace."""

    trace_id: bytes
    """16 bytes."""
    span_id: bytes
    """8 bytes: the span that whatever follows is a child of."""
    is_sampled: bool
    """Whether whoever wrote it records spans of the trace."""


def read_traceparent(value: bytes) -> TraceContext | None:
    """The context in a ``traceparent``; ``None`` for what is none, which W3C says to ignore."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    is_sampled = bool(int(flags, 16) & _SAMPLED)
    return TraceContext(
        bytes.fromhex(trace_id.decode()), bytes.fromhex(span_id.decode()), is_sampled
    )


def sampled_context(headers: Iterable[tuple[str, bytes]]) -> TraceContext | None:
    """The context in a record's headers, where its trace is recorded."""
    for name, value in headers:
        if name == "traceparent":
            # Most are not recorded, and need not be read for that.
            found = None if value.endswith(b"0") else read_traceparent(value)
            return found if found is not None and found.is_sampled else None
    return None


def traceparent_of(trace_id: bytes, span_id: bytes) -> bytes:
    """The ``traceparent`` of a span that is recorded."""
    return b"00-%b-%b-01" % (trace_id.hex().encode(), span_id.hex().encode())


def unsampled(traceparent: bytes) -> bytes:
    """The same context of a trace that nobody here records, until somebody here decides otherwise."""
    return b"%b00" % traceparent[:-_FLAGS_CHARS]


def trace_id_of_request(request_id: str) -> bytes:
    """The id of the trace of a request whose client sent none."""
    return bytes.fromhex(request_id.replace("-", ""))
