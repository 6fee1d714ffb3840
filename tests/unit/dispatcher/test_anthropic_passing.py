"""Message requests that go to a backend of Anthropic's protocol as they came, and its answers, which go back as they came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.operations.anthropic.passing import (  # fmt: skip
    MessageRelay,
    count_input,
    headers,
    is_passed,
    read_body,
)
from dispatcher.upstream.backend_words import BackendError
from dispatcher.upstream.event_splitter import UpstreamGarbage
from schemas.entities import Backend
from schemas.errors import ErrorCode
from schemas.messages import FREE_BETAS
from schemas.pricing.counts import TokenCounts
from tests.support.attempt_scene import FakeBus, attempt_run
from tests.support.events import accepted
from tests.support.scripted_backend import Answer, backend, choice_of, streaming, upstreams

_MARKED = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
_BODY = {
    "model": "echo",
    "max_tokens": 8,
    "thinking": {"type": "enabled", "budget_tokens": 4},
    "messages": [{"role": "user", "content": [_MARKED]}],
    "unknown": [1.5, None],
}
_LOGGED = _BODY | {
    "anthropic_version": "2023-06-01",
    "anthropic_beta": ["interleaved-thinking-2025-05-14", "costly-2026-01-01"],
}
_USAGE = {"input_tokens": 4, "cache_read_input_tokens": 8, "output_tokens": 3}
_CONTENT = [
    {"type": "thinking", "thinking": "hm", "signature": "sig"},
    {"type": "text", "text": "hello", "citations": None},
    {"type": "new_block", "odd": [1]},
    {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
]
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": _CONTENT, "stop_reason": "tool_use", "stop_sequence": None, "usage": _USAGE, "new": {}}  # fmt: skip


def _event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}).encode()
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


_START = _event("message_start", message={**_MESSAGE, "content": [], "stop_reason": None})
_PING = _event("ping")
_BLOCK = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
_TEXT = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"})
_NEW = _event("new_event", what={"is": "this"})
_END = _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
_STOP = _event("message_stop")


async def _run(
    answer: Answer, payload: dict[str, Any] = _LOGGED, protocol: str = "anthropic", **more: Any
) -> tuple[AttemptResult, FakeBus]:
    bus = FakeBus()
    asked = accepted(route="messages", payload=json.dumps(payload).encode(), output_tokens_bound=8, **more)  # fmt: skip
    async with backend(answer) as url, upstreams() as client:
        choice = choice_of(url, protocol=protocol)
        return await attempt_run(client, choice, asked, bus).run(), bus


async def test_a_body_arrives_as_it_came_and_its_betas_as_a_header() -> None:
    """Only the mark of the log is gone; betas are those that pass."""
    seen: list[tuple[Any, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.json(), request.headers.get("anthropic-beta")))
        return web.json_response(_MESSAGE)

    result, _ = await _run(answer)

    assert seen == [(_BODY, "interleaved-thinking-2025-05-14")]
    assert json.loads(result.ending.body) == _MESSAGE
    attempt = result.attempt
    assert (attempt.input_tokens, attempt.cached_tokens, attempt.output_tokens) == (12, 8, 3)


async def test_one_that_was_translated_is_translated_back() -> None:
    """As where the model has backends of both protocols: it has no mark."""
    chat = {"model": "echo", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return web.json_response(_MESSAGE)

    result, _ = await _run(answer, chat)

    assert seen == [chat]
    assert json.loads(result.ending.body)["object"] == "chat.completion"


async def test_a_backend_that_has_come_to_speak_another_protocol_is_not_called() -> None:
    """503: who sends it again is asked in the form that fits."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response({})

    result, _ = await _run(answer, protocol="openai")

    assert seen == []
    assert result.ending.code is ErrorCode.NO_BACKEND
    assert (result.may_try_another, result.may_have_spent, result.verdict) == (True, False, "undecided")  # fmt: skip


@pytest.mark.parametrize(
    ("allowed", "passes"),
    [(None, "interleaved-thinking-2025-05-14"), ((), None), (("costly-2026-01-01",), "costly-2026-01-01")],
)  # fmt: skip
def test_a_backend_says_which_betas_pass(allowed: Any, passes: str | None) -> None:
    """Without a list those that cost nothing."""
    told = headers(json.dumps(_LOGGED).encode(), Backend(url="http://b", betas=allowed))

    assert told == ({} if passes is None else {"anthropic-beta": passes})
    assert headers(json.dumps(_BODY).encode(), Backend(url="http://b")) == {}
    assert all("fast" not in name and "1m" not in name for name in FREE_BETAS)


def test_a_body_is_known_by_its_mark() -> None:
    """Not by what a text in it says."""
    said = _BODY | {"stop_sequences": ["anthropic_version"]}

    assert is_passed(json.dumps(_LOGGED).encode())
    assert not is_passed(json.dumps(said).encode())


def test_an_input_that_nobody_counted_is_counted_by_its_texts() -> None:
    """System, messages, results and tools; no media."""
    body = {
        "system": "hello world",
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "A" * 999}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "hello"}]}]},
        ],
    }  # fmt: skip
    assert count_input(json.dumps(body).encode()) < 12


@pytest.mark.parametrize("step", [1, 10_000])
def test_a_stream_is_relayed_event_by_event(step: int) -> None:
    """Its bytes are the backend's, what nobody here knows too; pings and the end are the gateway's own."""
    sent = _START + _PING + _BLOCK + _TEXT + _NEW + _END + _STOP
    stream = MessageRelay(relays_usage=True)
    relayed = b"".join(stream.feed(sent[at : at + step]) for at in range(0, len(sent), step))

    assert relayed + stream.finish() == _START + _BLOCK + _TEXT + _NEW + _END
    answer = stream.answer()
    assert (stream.done, answer.provider_id) == (True, "msg_1")
    assert answer.usage == TokenCounts(12, 9, cached_tokens=8)
    assert answer.output.take() == "hello"


def test_the_first_event_waits_for_content() -> None:
    """So another backend may answer where this one fails behind it."""
    stream = MessageRelay(relays_usage=True)

    assert stream.feed(_START + _PING) == b""
    assert stream.feed(_event("error", error={"type": "overloaded_error", "message": "x"})) == b""
    assert stream.error is not None
    assert stream.error.status == 529


def test_a_stream_that_breaks_off_has_told_its_input() -> None:
    """And is not whole until it has said why it ends."""
    stream = MessageRelay(relays_usage=True)
    stream.feed(_START + _BLOCK + _TEXT)

    assert (stream.has_ended, stream.answer().usage) == (False, None)
    assert stream.answer().input_told == TokenCounts(12, 3, cached_tokens=8)
    stream.feed(_END)
    assert (stream.has_ended, stream.done) == (True, False)


def test_a_message_where_a_stream_was_asked_for_is_told_as_one() -> None:
    """Each block at once."""
    stream = MessageRelay(relays_usage=True)
    relayed = stream.feed(json.dumps({**_MESSAGE, "content": _CONTENT[:2]}).encode())
    relayed += stream.finish() + _STOP

    kinds = [line[7:] for line in relayed.split(b"\n") if line.startswith(b"event: ")]
    assert kinds[0] == b"message_start"
    assert kinds.count(b"content_block_start") == kinds.count(b"content_block_stop") == 2
    assert kinds[-2:] == [b"message_delta", b"message_stop"]
    assert stream.answer().usage == TokenCounts(12, 3, cached_tokens=8)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content":1}', b"data: {}\n\n"])
def test_what_is_no_message_is_garbage(body: bytes) -> None:
    """An error is one."""
    with pytest.raises(UpstreamGarbage):
        read_body(body)
    with pytest.raises(BackendError):
        read_body(b'{"type":"error","error":{"type":"api_error","message":"x"}}')


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": "many"}, {"output_tokens": -1}, 7])
def test_odd_usage_passes_and_is_not_believed(usage: Any) -> None:
    """The body is the client's, whatever stands in it."""
    body = json.dumps({**_MESSAGE, "usage": usage}).encode()
    answer, relayed = read_body(body)

    assert (answer.usage, relayed) == (None, body)
    assert answer.output.take() == 'hmhelloadd{"a":1}'


async def test_a_count_that_cannot_be_is_booked_at_the_bound() -> None:
    """Its client is shown what the backend said."""
    huge = _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 10**12})  # fmt: skip
    result, bus = await _run(streaming(_START, _TEXT, huge, _STOP), stream=True)

    assert result.attempt.output_tokens == 8
    assert result.attempt.told_output_tokens == 10**12
    assert b"1000000000000" in bus.relayed


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([_START, _PING, _TEXT, _END, _STOP, _NEW, _event("error"), b"\xff\n\n", b"data: \xff\n\n", b"data: [DONE]\n\n"])
        | st.binary(max_size=9),
        max_size=8,
    )
)  # fmt: skip
def test_nothing_that_a_backend_sends_raises(pieces: list[bytes]) -> None:
    """In whatever order; what leaves are events with a name."""
    stream = MessageRelay(relays_usage=True)
    relayed = b"".join(map(stream.feed, pieces)) + stream.finish()
    stream.answer()

    events = [each for each in relayed.split(b"\n\n") if each]
    assert all(each.startswith(b"event: ") for each in events)
