"""One attempt at a backend that speaks Anthropic's protocol: what is called, and what is made of what it answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from aiohttp import web

from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.backends.probe_client import ProbeClient
from schemas.entities import Backend
from schemas.errors import ErrorCode
from schemas.operations import OPERATIONS
from tests.support.attempt_scene import FakeBus, attempt_run
from tests.support.events import NOW_MS, accepted
from tests.support.scripted_backend import (
    Answer,
    answering,
    backend,
    choice_of,
    streaming,
    upstreams,
)

_ASKED = json.dumps({"model": "echo", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}).encode()  # fmt: skip
_USAGE = {"input_tokens": 4, "cache_read_input_tokens": 8, "output_tokens": 3}
_MESSAGE = {"id": "msg_1", "content": [{"type": "text", "text": "hello"}], "usage": _USAGE}
_KEY = "BACKEND_B1_API_KEY"


def _event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}).encode()
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


_START = _event("message_start", message={"id": "msg_1", "usage": {**_USAGE, "output_tokens": 1}})
_TEXT = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"})
_END = _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
_STOP = _event("message_stop")


async def _run(answer: Answer, **more: Any) -> tuple[AttemptResult, FakeBus]:
    bus, asked = FakeBus(), {"payload": _ASKED, "output_tokens_bound": 8, **more}
    async with backend(answer) as url, upstreams({_KEY: "secret"}) as client:
        choice = choice_of(url, protocol="anthropic", api_key_env=_KEY)
        result = await attempt_run(client, choice, accepted(**asked), bus).run()
    return result, bus


async def test_it_is_called_with_its_own_headers_and_path() -> None:
    """The key in its own header, the version of the protocol, and nothing of OpenAI's."""
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response(_MESSAGE)

    await _run(answer)

    (request,) = seen
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == "secret"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers


async def test_its_message_is_booked_and_relayed_as_a_chat_completion() -> None:
    """With the caches beside its input as parts of it."""
    result, _ = await _run(answering(200, json.dumps(_MESSAGE).encode()))

    attempt, body = result.attempt, json.loads(result.ending.body)
    assert (attempt.input_tokens, attempt.cached_tokens, attempt.output_tokens) == (12, 8, 3)
    assert (attempt.estimated, attempt.provider_id) == (False, "msg_1")
    assert (body["object"], body["created"]) == ("chat.completion", NOW_MS // 1000)
    assert body["choices"][0]["message"]["content"] == "hello"


async def test_its_stream_is_booked_by_what_it_told_in_both_ends() -> None:
    """The input at its beginning, the output at its end."""
    answer = streaming(_START, _TEXT, _END, _STOP)
    result, bus = await _run(answer, stream=True, include_usage=True)

    attempt = result.attempt
    assert (attempt.input_tokens, attempt.cached_tokens, attempt.output_tokens) == (12, 8, 3)
    assert result.ending.status == "completed"
    assert b'"total_tokens":15' in bus.relayed


async def test_a_stream_that_breaks_off_is_booked_at_the_input_that_it_told() -> None:
    """Its caches are not billed as plain input; the output is an estimate."""
    result, _ = await _run(streaming(_START, _TEXT), stream=True)

    attempt = result.attempt
    assert (attempt.input_tokens, attempt.cached_tokens, attempt.output_tokens) == (12, 8, 1)
    assert (attempt.status, attempt.estimated) == ("interrupted", True)
    assert result.ending.code is ErrorCode.UPSTREAM_INTERRUPTED


async def test_an_input_that_cannot_be_is_not_believed_though_the_stream_broke_off() -> None:
    """As where it tells all of its usage: beyond the window the bound is booked."""
    start = _event("message_start", message={"usage": {"input_tokens": 10**12}})
    attempt = (await _run(streaming(start, _TEXT), stream=True))[0].attempt

    assert attempt.input_tokens == accepted().input_tokens_bound
    assert attempt.told_input_tokens == 10**12


_OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize("where", ["status", "body", "stream"])
async def test_one_that_is_full_may_be_tried_elsewhere_and_costs_nothing(where: str) -> None:
    """Wherever it says so before its first content; it is neither well nor broken."""
    body = json.dumps(_OVERLOADED).encode()
    error = b"event: error\ndata: %b\n\n" % body
    answers = {
        "status": answering(529, body),
        "body": answering(200, body),
        "stream": streaming(_START, error),
    }
    result, bus = await _run(answers[where], stream=where == "stream")

    assert result.ending.code is ErrorCode.OVERLOADED
    assert (result.may_try_another, result.may_have_spent, result.verdict) == (True, False, "undecided")  # fmt: skip
    assert (result.attempt.input_tokens, bus.relayed) == (0, b"")


async def test_an_error_in_mid_stream_keeps_its_words() -> None:
    """The client has seen content, so nobody else may answer it."""
    error = _event("error", error={"type": "api_error", "message": "it broke"})
    result, _ = await _run(streaming(_START, _TEXT, error), stream=True)

    assert result.ending.code is ErrorCode.UPSTREAM_INTERRUPTED
    assert (result.ending.message, result.may_try_another) == ("it broke", False)
    assert result.ending.said is not None
    assert result.ending.said.type == "api_error"


@pytest.mark.parametrize(
    ("message", "code"),
    [("prompt is too long: 9 tokens", "context_length_exceeded"), ("max_tokens: unknown field", None)],
)  # fmt: skip
async def test_a_refusal_of_a_request_has_the_backends_words_and_code(
    message: str, code: str | None
) -> None:
    """And no lesson is drawn from it: its protocol has no dialects."""
    calls: list[bytes] = []
    error = {"type": "invalid_request_error", "message": message}

    async def answer(request: web.Request) -> web.Response:
        calls.append(await request.read())
        return web.json_response({"type": "error", "error": error}, status=400)

    result, _ = await _run(answer)

    assert len(calls) == 1
    assert (result.ending.code, result.ending.http_status) == (ErrorCode.UPSTREAM_REJECTED, 400)
    assert result.ending.said is not None
    assert (result.ending.said.code, result.ending.said.type) == (code, "invalid_request_error")


async def test_what_its_protocol_cannot_ask_calls_nothing() -> None:
    """400 by the field's name; another backend may take it, and nothing speaks against this one."""
    calls: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.json_response(_MESSAGE)

    fields = json.loads(_ASKED) | {"logprobs": True}
    for more in ({"payload": json.dumps(fields).encode()}, {"route": "embeddings"}):
        result, _ = await _run(answer, **more)
        assert (result.ending.code, result.ending.http_status) == (ErrorCode.UPSTREAM_REJECTED, 400)
        assert (result.may_try_another, result.may_have_spent, result.verdict) == (True, False, "undecided")  # fmt: skip
        assert result.ending.said is not None
        assert result.ending.said.param == ("model" if "route" in more else "logprobs")
    assert calls == []


@pytest.mark.parametrize("route", [n for n, row in OPERATIONS.items() if "anthropic" in row.upstream_paths])  # fmt: skip
async def test_all_that_become_chat_completions_are_asked_of_it(route: str) -> None:
    """Whatever surface they came by."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.json())["model"])
        return web.json_response(_MESSAGE)

    async with backend(answer) as url, upstreams() as client:
        choice = choice_of(url, protocol="anthropic")
        choice = msgspec.structs.replace(choice, upstream_model="claude-x")
        await attempt_run(client, choice, accepted(route=route, payload=_ASKED), FakeBus()).run()

    assert seen == ["claude-x"]


async def test_a_large_body_is_built_beside_the_loop_and_arrives_whole() -> None:
    """As a small one."""
    text = "x" * 300_000
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.json())["messages"][0]["content"])
        return web.json_response(_MESSAGE)

    fields = {"model": "echo", "max_tokens": 8, "messages": [{"role": "user", "content": text}]}
    await _run(answer, payload=json.dumps(fields).encode())

    assert seen == [text]


async def test_probes_ask_for_its_models_with_its_key() -> None:
    """So a wrong key is seen as 401 before anybody is refused by it; without one it is asked as well."""
    seen: list[tuple[str, str | None, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        headers = request.headers
        seen.append((request.path, headers.get("x-api-key"), headers.get("anthropic-version")))
        return web.Response(status=200 if headers.get("x-api-key") == "secret" else 401)

    async with backend(answer) as url, upstreams({_KEY: "secret"}) as client:
        prober = ProbeClient(client.authorization)
        await prober.start()
        for variable, status in ((_KEY, "status 200"), (None, "status 401")):
            found = await prober.probe(Backend(url=url, protocol="anthropic", api_key_env=variable))
            assert (found.said, found.is_alive) == (status, True)
        await prober.stop()

    assert seen == [("/v1/models", "secret", "2023-06-01"), ("/v1/models", None, "2023-06-01")]
