"""The span of a request at the door: from its head to the last byte of its answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.types import Scope

from ingress.http.paths import route_of
from schemas import span_names as names
from schemas.runtime.process.tracing import Kind, Span, Tracer, Value
from schemas.trace_context import read_traceparent

__all__ = ["answered", "arriving"]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_OTHER: Final = "_OTHER"
"""The conventions' name of all other methods: anybody may send any word."""
_PATH_CHARS_MAX: Final = 256


def arriving(tracer: Tracer, scope: Scope, now_s: float) -> Span | None:
    """Begin the span of a request, below its client's where that sent its context; ``None`` when it is not traced."""
    parent = None
    for name, value in scope["headers"]:
        if name == b"traceparent":
            parent = read_traceparent(value)
    request_id = scope["state"]["request_id"]
    context = tracer.arrived(request_id, parent, now_s)
    if context is None:
        return None
    method = scope["method"] if scope["method"] in _METHODS else _OTHER
    attributes: dict[str, Value] = {
        names.HTTP_METHOD: method,
        names.URL_SCHEME: scope["scheme"],
        names.URL_PATH: scope["path"][:_PATH_CHARS_MAX],
        names.REQUEST_ID: request_id,
    }
    name, route = method, route_of(scope["path"])
    if route is not None:
        name = f"{method} {route}"
        attributes[names.HTTP_ROUTE] = route
    return tracer.open(request_id, context, name, Kind.SERVER, attributes)


def answered(span: Span, status: int | None) -> None:
    """End it; ``None`` where the client left before an answer began.

    What a client did wrong is no error of a server. Source: OpenTelemetry, HTTP spans, status.
    """
    if status is None:
        span.attributes[names.CLIENT_GONE] = True
        span.end()
        return
    span.attributes[names.HTTP_STATUS] = status
    span.end(str(status) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None)
