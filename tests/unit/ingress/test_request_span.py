"""The span of a request at the door: which requests have one, whose child it is, what it says."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from ingress.http.middleware import RequestMiddleware
from ingress.http.paths import HEALTHZ, METRICS, READYZ, STARTUPZ, route_of
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Span, Tracer
from tests.unit.runtime.test_tracing import tracer_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class _Doors:
    is_leaving = False

    def opening(self) -> None:
        return None


async def served(
    tracer: Tracer | None,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    traceparent: str | None = None,
    status: int | None = 200,
) -> tuple[Span | None, dict[str, Any]]:
    """The span that was open while the request was served, and the scope that its endpoint saw."""
    seen: dict[str, Any] = {}

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope)
        request_id = scope["state"]["request_id"]
        seen["span"] = None if tracer is None else tracer.of(request_id)
        if status is not None:
            await PlainTextResponse("", status)(scope, receive, send)

    async def nothing(*_: Any) -> Any:
        return None

    headers = [] if traceparent is None else [(b"traceparent", traceparent.encode())]
    edge = RequestMiddleware(
        endpoint, metrics=Metrics(), clock=Clock(), doors=_Doors(), tracer=tracer
    )
    head = {"type": "http", "scheme": "http", "method": method, "path": path, "headers": headers}
    await edge(head, nothing, nothing)
    return seen.pop("span"), seen


async def test_a_traced_request_is_one_span_until_its_answer_is_out() -> None:
    """With the conventions' names, and our id of it."""
    tracer = tracer_of()
    span, scope = await served(tracer)

    assert span is not None
    assert list(tracer.ended) == [span]
    assert (span.name, span.error) == ("POST /v1/chat/completions", None)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "tallygate.request_id": scope["state"]["request_id"],
    }


@pytest.mark.parametrize(("status", "error"), [(402, None), (429, None), (502, "502")])
async def test_what_a_client_did_wrong_is_no_error_of_the_server(
    status: int, error: str | None
) -> None:
    """As the conventions say of a server's span."""
    span, _ = await served(tracer_of(), status=status)

    assert span is not None
    assert (span.attributes["http.response.status_code"], span.error) == (status, error)


async def test_a_client_that_left_has_no_status() -> None:
    """But a mark of its own."""
    span, _ = await served(tracer_of(), status=None)

    assert span is not None
    assert span.attributes["tallygate.client_gone"] is True
    assert "http.response.status_code" not in span.attributes


async def test_a_client_that_is_traced_has_the_request_below_its_span() -> None:
    """In its trace, where its flag says that it is sampled."""
    tracer = tracer_of("parentbased_always_off")
    span, _ = await served(tracer, traceparent=f"00-{TRACE}-{SPAN}-01")
    others = [
        await served(tracer),
        await served(tracer, traceparent=f"00-{TRACE}-{SPAN}-00"),
        await served(tracer, traceparent="00-odd-01"),
    ]

    assert span is not None
    assert (span.trace_id.hex(), span.parent_id.hex()) == (TRACE, SPAN)
    assert [other for other, _ in others] == [None] * 3


@pytest.mark.parametrize("path", [HEALTHZ, READYZ, STARTUPZ, METRICS])
async def test_questions_of_probes_are_not_traced(path: str) -> None:
    """They would be most of all traces."""
    span, _ = await served(tracer_of(), path, "GET")

    assert span is None


async def test_a_process_that_traces_nothing_serves_the_same_request() -> None:
    """Whatever its client says."""
    _, scope = await served(None, traceparent=f"00-{TRACE}-{SPAN}-01")

    assert scope["state"]["request_id"]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/jobs", "/v1/jobs"),
        ("/v1/jobs/019a", "/v1/jobs/{id}"),
        ("/v1/models/a", "/v1/models/{id}"),
        ("/v1/requests/019a", "/v1/requests/{id}"),
        ("/v1/requests/019a/events", "/v1/requests/{id}/events"),
        ("/v1/jobs/019a/events", None),
        ("/v1/jobs/", None),
        ("/wp-admin", None),
        ("", None),
    ],
)
def test_a_path_is_named_by_its_template(path: str, route: str | None) -> None:
    """Or not at all: whoever scans a server would make a name of every try."""
    assert route_of(path) == route


async def test_anybodys_words_in_a_request_line_make_no_names() -> None:
    """An unknown method is ``_OTHER``; a path is cut."""
    span, _ = await served(tracer_of(), "/" + "x" * 5_000, "BREW")

    assert span is not None
    assert span.name == "_OTHER"
    assert len(str(span.attributes["url.path"])) == 256
