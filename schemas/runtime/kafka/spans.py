"""Spans of records: sending one, and all that is done for one that was delivered.

Whoever reads a record goes on where its sender's span stands in its headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

from schemas import span_names as names
from schemas.events import RecordRef
from schemas.outgoing import Outgoing, traced
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.tracing import Kind, Span, Tracer
from schemas.trace_context import sampled_context

__all__ = ["receiving", "sending"]

_KAFKA: Final = "kafka"
_SEND: Final = "send"
_PROCESS: Final = "process"


def sending(tracer: Tracer, record: Outgoing, delivered: asyncio.Future[RecordRef]) -> Outgoing:
    """The record as it is to be sent: of a request that is traced here it carries the context of its own span, which
    ends when it is ``delivered``."""
    request_id = _request_id(record.headers)
    parent = None if request_id is None else tracer.of(request_id)
    if parent is None:
        return record
    attributes = _attributes(_SEND, record.topic) | {names.REQUEST_ID: request_id or ""}
    span = tracer.below(parent, f"{_SEND} {record.topic}", Kind.PRODUCER, attributes)
    delivered.add_done_callback(partial(_delivered, span))
    return traced(record, span.traceparent)


def receiving(tracer: Tracer, group: str, record: Record) -> None:
    """Begin the span of a delivered record whose trace is recorded; it ends when the record is finished."""
    context = sampled_context(record.header_list)
    request_id = None if context is None else _request_id(record.header_list)
    if context is None or request_id is None:
        return
    attributes = _attributes(_PROCESS, record.topic)
    attributes[names.MESSAGING_PARTITION] = str(record.partition)
    attributes[names.MESSAGING_OFFSET] = record.offset
    attributes[names.MESSAGING_GROUP] = group
    attributes[names.REQUEST_ID] = request_id
    name = f"{_PROCESS} {record.topic}"
    record.span = tracer.open(request_id, context, name, Kind.CONSUMER, attributes)


def _attributes(operation: str, topic: str) -> dict[str, str | int | float | bool]:
    return {
        names.MESSAGING_SYSTEM: _KAFKA,
        names.MESSAGING_OPERATION_NAME: operation,
        names.MESSAGING_OPERATION_TYPE: operation,
        names.MESSAGING_DESTINATION: topic,
    }


def _request_id(headers: Iterable[tuple[str, bytes]]) -> str | None:
    """Whose record it is."""
    for name, value in headers:
        if name == "request_id":
            return value.decode(errors="replace")
    return None


def _delivered(span: Span, delivered: asyncio.Future[RecordRef]) -> None:
    if delivered.cancelled():
        span.end("cancelled")
    elif (error := delivered.exception()) is not None:
        span.end(type(error).__name__)
    else:
        at = delivered.result()
        span.attributes[names.MESSAGING_PARTITION] = str(at.partition)
        span.attributes[names.MESSAGING_OFFSET] = at.offset
        span.end()
