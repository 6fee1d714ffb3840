"""A receiver of traces of our own: takes what processes post over OTLP/HTTP, and reads it with OpenTelemetry's messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

_POLL_S = 0.1


@dataclass(frozen=True)
class Seen:
    """A span that arrived, and the process that sent it."""

    process: str
    """Its ``service.name``."""
    instance: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    started_ns: int
    ended_ns: int
    is_error: bool
    attributes: dict[str, Any]


@dataclass
class Receiver:
    """What has arrived so far."""

    url: str
    spans: list[Seen] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200
    """What it answers with."""
    delay_s: float = 0.0
    answer: bytes = b""

    def of(self, trace_id: str) -> list[Seen]:
        """The spans of one trace, in the order of their beginnings."""
        found = [span for span in self.spans if span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.started_ns)

    def wait_for(
        self, trace_id: str, is_enough: Callable[[list[Seen]], bool], within_s: float = 15.0
    ) -> list[Seen]:
        """The spans of the trace once they are enough, or all there are after that time."""
        until_s = time.monotonic() + within_s
        while not is_enough(found := self.of(trace_id)) and time.monotonic() < until_s:
            time.sleep(_POLL_S)
        return found

    def take(self, body: bytes) -> None:
        """Read one export."""
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(of_process.resource.attributes)
            for of_scope in of_process.scope_spans:
                self.spans += [_seen(span, resource) for span in of_scope.spans]


@contextmanager
def otlp_receiver(port: int = 0) -> Iterator[Receiver]:
    """A receiver on a port of the loopback address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(receiver.delay_s)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            if receiver.status == 200:
                receiver.bodies.append(body)
                if self.path == "/v1/traces":
                    receiver.take(body)
            with suppress(OSError):  # Whoever asked may have given it up.
                self.send_response(receiver.status)
                self.send_header("content-length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def rejecting(count: int) -> bytes:
    """The answer of a receiver that did not want so many of the spans."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = count
    written: bytes = answer.SerializeToString()
    return written


def _seen(span: Span, resource: dict[str, Any]) -> Seen:
    return Seen(
        process=resource["service.name"],
        instance=resource["service.instance.id"],
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
    )


def _attributes(listed: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in listed}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
