"""Writes spans as OTLP has them: one message for many. Pure.

Source: OpenTelemetry Protocol 1.x, ``ExportTraceServiceRequest``; the messages are ``opentelemetry-proto``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from schemas.runtime.process.tracing import Span, Value
from schemas.span_names import ERROR_TYPE, SCHEMA_URL

__all__ = ["export_request", "rejected_spans"]

_SCOPE: Final = "tallygate"
_SAMPLED: Final = 1


def export_request(spans: Iterable[Span], resource: Mapping[str, Value]) -> bytes:
    """The message that exports the spans of a process, which is told by the attributes of ``resource``.

    A span that no message can hold, such as one with half a character in it, is left out.
    """
    request = ExportTraceServiceRequest()
    of_process = request.resource_spans.add()
    of_process.schema_url = SCHEMA_URL
    _fill(of_process.resource.attributes, resource)
    of_scope = of_process.scope_spans.add()
    of_scope.scope.name = _SCOPE
    for span in spans:
        with suppress(ValueError, TypeError):
            of_scope.spans.append(_written(span))
    body: bytes = request.SerializeToString()
    return body


def _written(span: Span) -> Message:
    written = Message(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_id,
        flags=_SAMPLED,
        name=span.name,
        kind=cast("Message.SpanKind.ValueType", span.kind.value),
        start_time_unix_nano=span.started_ns,
        # Clocks are corrected while things go on; no span ends before it began.
        end_time_unix_nano=max(span.started_ns, span.ended_ns),
    )
    _fill(written.attributes, span.attributes)
    if span.error is not None:
        written.status.code = Status.STATUS_CODE_ERROR
        _fill(written.attributes, {ERROR_TYPE: span.error})
    return written


def rejected_spans(answer: bytes) -> int:
    """How many spans the receiver did not want; 0 where it does not say."""
    try:
        told: int = ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
        return told
    except Exception:  # noqa: BLE001  # total: whatever a receiver sends, the spans are gone
        return 0


def _fill(attributes: Any, values: Mapping[str, Value]) -> None:
    for name, value in values.items():
        attribute = attributes.add()
        attribute.key = name
        if isinstance(value, str):
            attribute.value.string_value = value
        elif isinstance(value, bool):
            attribute.value.bool_value = value
        elif isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.double_value = value
