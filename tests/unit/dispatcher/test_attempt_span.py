"""The span of an attempt: what it says of a call, and that no text is in it unless somebody asked for texts."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.attempts.attempt_span import attempt_ended, attempting
from dispatcher.attempts.attempt_texts import TEXT_BYTES_MAX, input_messages, output_messages
from dispatcher.work import AdmittedRequest, Choice, Result
from schemas.entities import Backend
from schemas.errors import ErrorCode
from schemas.runtime.process.tracing import Kind, Span, Tracer
from schemas.sampling import sampler_of
from schemas.trace_context import TraceContext
from tests.support.attempt_scene import FakeBus, attempt_run
from tests.support.events import DISPATCHED_AT, REQUEST_ID, accepted, admitted, attempt
from tests.support.scripted_backend import backend, choice_of, upstreams

SECRET = "the prompt of somebody"
PAYLOAD = json.dumps({"messages": [{"role": "user", "content": SECRET}]}).encode()
ANSWER = json.dumps(
    {"choices": [{"message": {"role": "assistant", "content": SECRET}, "finish_reason": "stop"}]}
).encode()


def tracer_of(*, with_content: bool = False) -> Tracer:
    return Tracer(sampler_of("always_on", 1, 0), lambda: 1, with_content=with_content)


def ran(
    tracer: Tracer, *, url: str = "http://backend.test:8000/v1", **more: Any
) -> tuple[Span, Span]:
    """The span of the request, and that of an attempt which ended as ``more`` says."""
    request = accepted(payload=PAYLOAD, route=more.pop("route", "chat.completions"))
    job = AdmittedRequest(admitted(request), request, DISPATCHED_AT)
    context = TraceContext(b"\1" * 16, b"\2" * 8, is_sampled=True)
    parent = tracer.open(REQUEST_ID, context, "process", Kind.CONSUMER, {})
    # An address that nobody can call is refused where it is configured today; an old log may have one.
    choice = Choice("b1", cast("Backend", SimpleNamespace(url=url)), "upstream-name")
    span = attempting(tracer, job, choice, 1)
    assert span is not None
    code = more.pop("code", None)
    status = "completed" if code is None else "failed"
    result = AttemptResult(
        attempt(**more), Result(status, code, body=ANSWER), False, True, "succeeded"
    )
    attempt_ended(span, result, with_content=tracer.with_content)
    return parent, span


def test_an_attempt_that_succeeds_says_who_was_asked_and_what_it_used() -> None:
    """In the conventions' names, and ours where they have none."""
    parent, span = ran(tracer_of(), provider_id="chatcmpl-1", upstream_status=200)

    assert (span.name, span.parent_id, span.error) == ("chat upstream-name", parent.span_id, None)
    assert span.attributes == span.attributes | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "upstream-name",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.usage.input_tokens": attempt().input_tokens,
        "gen_ai.usage.output_tokens": attempt().output_tokens,
        "http.response.status_code": 200,
        "server.address": "backend.test",
        "server.port": 8000,
        "tallygate.backend": "b1",
        "tallygate.attempt": 1,
        "tallygate.attempt.status": "succeeded",
        "tallygate.org": "acme",
        "tallygate.request_id": REQUEST_ID,
    }


def test_an_attempt_that_fails_is_an_error_with_the_gateways_code() -> None:
    """As its client hears it."""
    _, span = ran(tracer_of(), status="failed", code=ErrorCode.UPSTREAM_ERROR, upstream_status=500)

    assert span.error == ErrorCode.UPSTREAM_ERROR
    assert span.attributes["http.response.status_code"] == 500


def test_a_stream_says_when_its_first_content_left() -> None:
    """After so many milliseconds of the attempt."""
    made = attempt()
    _, span = ran(tracer_of(), first_token_at_ms=made.started_at_ms + 7)

    assert span.attributes["tallygate.first_content_ms"] == 7


def test_another_operation_has_its_own_name() -> None:
    """Which is the conventions', not the path's."""
    _, span = ran(tracer_of(), route="embeddings")

    assert span.name == "embeddings upstream-name"


def test_a_backend_that_cannot_be_called_has_no_address() -> None:
    """Its attempt is a span all the same."""
    _, span = ran(tracer_of(), url="http://", status="failed", code=ErrorCode.NO_BACKEND)

    assert "server.address" not in span.attributes


def test_no_text_is_in_a_span_unless_the_operator_asked_for_texts() -> None:
    """Neither the prompt's nor the answer's."""
    _, quiet = ran(tracer_of())
    _, loud = ran(tracer_of(with_content=True))

    assert SECRET not in repr(quiet.attributes)
    said = json.loads(str(loud.attributes["gen_ai.input.messages"]))
    answered = json.loads(str(loud.attributes["gen_ai.output.messages"]))
    parts = [{"type": "text", "content": SECRET}]
    assert said == [{"role": "user", "parts": parts}]
    assert answered == [{"role": "assistant", "parts": parts, "finish_reason": "stop"}]


def test_a_request_that_is_not_traced_has_no_attempt_span() -> None:
    """Nobody has opened a span for it here."""
    request = accepted()
    job = AdmittedRequest(admitted(request), request, DISPATCHED_AT)

    assert attempting(tracer_of(), job, Choice("b1", Backend(url="http://b:1"), None), 1) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"data: {}\n\n", b"[]", b'{"messages": 5}', b'{"choices": {}}', b"[" * 100_000, b"\xff"],
)
def test_bodies_that_are_no_messages_have_no_text(body: bytes) -> None:
    """A stream, an error, whatever anybody sends: it costs the attribute."""
    assert input_messages(body) is None
    assert output_messages(body) is None


def test_parts_of_messages_are_kept_and_what_is_too_long_is_left_out_whole() -> None:
    """Half a JSON is none."""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]
    said = input_messages(json.dumps({"messages": [{"role": "user", "content": parts}]}).encode())
    text = "x" * TEXT_BYTES_MAX
    long = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()

    assert said is not None
    assert json.loads(said) == [{"role": "user", "parts": parts}]
    assert input_messages(long) is None


@pytest.mark.parametrize("traceparent", [None, "00-" + "1" * 32 + "-" + "2" * 16 + "-01"])
async def test_a_backend_is_told_the_context_of_its_attempt_and_of_no_other(
    traceparent: str | None,
) -> None:
    """So that a server which traces goes on below it."""
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent"))
        return web.Response(body=ANSWER, content_type="application/json")

    async with backend(answer) as url, upstreams() as client:
        run = attempt_run(client, choice_of(url), accepted(payload=PAYLOAD), FakeBus())
        run.traceparent = traceparent
        await run.run()

    assert seen == [traceparent]
