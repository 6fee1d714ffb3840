"""The span of a call over gRPC, which is what that of a request is over HTTP: from its metadata to its status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from ingress.grpc.call import Call
from ingress.http.middleware import CLIENT_GONE
from schemas import span_names as names
from schemas.runtime.process.tracing import Kind, Span, Tracer
from schemas.trace_context import read_traceparent

__all__ = ["arriving", "ended"]

_GRPC: Final = "grpc"


def arriving(tracer: Tracer, call: Call, method: str, now_s: float) -> Span | None:
    """Begin the span of a call of a method; ``None`` when it is not traced."""
    parent = read_traceparent(call.headers.get(b"traceparent", b""))
    context = tracer.arrived(call.request_id, parent, now_s)
    if context is None:
        return None
    return tracer.open(
        call.request_id,
        context,
        method,
        Kind.SERVER,
        {
            names.RPC_SYSTEM: _GRPC,
            names.RPC_METHOD: method,
            names.REQUEST_ID: call.request_id,
        },
    )


def ended(span: Span, status: int, code: str) -> None:
    """End it; what a client did wrong is no error of a server."""
    if status == CLIENT_GONE:
        span.attributes[names.CLIENT_GONE] = True
    if code:
        span.attributes[names.CODE] = code
    span.end(code if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None)
