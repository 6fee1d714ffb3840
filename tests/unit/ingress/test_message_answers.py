"""Answers of chat completions as Anthropic's messages: whole, and as events that the SDK adds up."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from ingress.apis.answer_format import error_event, ping
from ingress.apis.anthropic.answers import MessageFormat
from ingress.http.anthropic_headers import anthropic_headers
from ingress.http.head_guard import HEAD_TOO_LARGE, refusal_answer
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.events import Denial, RateStatus
from schemas.frames import Chunk, Started, Terminal, Usage
from tests.support.gateway import Gateway

USAGE: Final = Usage(12, 5, 40, estimated=False, cached_tokens=4, cache_write_tokens=2)
TOLD: Final = {
    "input_tokens": 6,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 4,
    "output_tokens": 5,
}
_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(RawMessageStreamEvent)


def _whole(message: Any, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, **more}
    terminal = Terminal(200, json.dumps({"choices": [choice]}).encode(), usage=USAGE)
    body = MessageFormat("m", "1f").body(terminal)
    assert isinstance(body, bytes)
    found: dict[str, Any] = json.loads(body)
    return found


def _call(index: int | None, **call: Any) -> dict[str, Any]:
    number = {} if index is None else {"index": index}
    name, arguments = call.pop("name", None), call.pop("arguments", "")
    return {**number, **call, "function": {"name": name, "arguments": arguments}}


def _streamed(*deltas: Any, finish_reason: str = "stop", **more: Any) -> list[dict[str, Any]]:
    """The events of a stream, each checked by the SDK's own types."""
    pieces = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    pieces.append({"index": 0, "delta": {}, "finish_reason": finish_reason, **more})
    chunks = [b"data: %b\n\n" % json.dumps({"choices": [piece]}).encode() for piece in pieces]
    form = MessageFormat("m", "1f")
    told = b"".join([*map(form.events, chunks), form.last_events(Terminal(200, usage=USAGE))])
    found = []
    for event in told.decode().split("\n\n")[:-1]:
        name, data = (line for line in event.split("\n") if not line.startswith(":"))
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def _added_up(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the SDK makes of events."""
    message: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        read = _EVENT.validate_python(event)
        message = accumulate_event(event=read, current_snapshot=message, json_bufs=buffers)
    found: dict[str, Any] = message.to_dict()
    return found


def test_a_text_is_a_message_with_what_is_billed() -> None:
    """Caches stand beside the input."""
    assert _whole({"role": "assistant", "content": "hello"}) == {
        "id": "msg_1f",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": TOLD,
    }


@pytest.mark.parametrize(
    ("finish_reason", "more", "expected"),
    [
        ("length", {}, ("max_tokens", None)),
        ("content_filter", {}, ("refusal", None)),
        ("stop", {"stop_reason": "END"}, ("stop_sequence", "END")),
        ("stop", {"stop_reason": 128_001}, ("end_turn", None)),
        ("tool_calls", {}, ("end_turn", None)),
        (None, {}, ("end_turn", None)),
        (7, {}, ("end_turn", None)),
    ],
)
def test_why_it_ends_is_told_in_anthropics_words(
    finish_reason: Any, more: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    """Whole and streamed alike."""
    whole = _whole({"content": "x"}, finish_reason, **more)
    streamed = _added_up(_streamed({"content": "x"}, finish_reason=finish_reason, **more))

    assert (whole["stop_reason"], whole["stop_sequence"]) == expected
    assert (streamed["stop_reason"], streamed["stop_sequence"]) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        ('{"a": "cut', {"arguments": '{"a": "cut'}),
        ("[1]", {"arguments": "[1]"}),
        (None, {}),
    ],
)
def test_a_call_is_a_block_with_its_input_as_an_object(arguments: Any, expected: Any) -> None:
    """Also where the server sends it so already, says stop behind it, or gives no id."""
    message = {
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": arguments}}, 7],
    }
    found = _whole(message)

    assert found["content"] == [
        {"type": "tool_use", "id": "toolu_1f_0", "name": "f", "input": expected}
    ]
    assert found["stop_reason"] == "tool_use"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":7}', b"\xff"])
def test_what_is_no_completion_is_an_upstream_error(body: bytes) -> None:
    """502."""
    refusal = MessageFormat("m", "1f").body(Terminal(200, body))

    assert isinstance(refusal, Refusal)
    assert refusal.status == 502


def test_a_stream_of_text_and_calls_adds_up() -> None:
    """Each block starts, goes on and stops before the next one; the end has the usage."""
    events = _streamed(
        {"role": "assistant", "content": ""},
        {"content": "let "},
        {"content": "me see"},
        {"tool_calls": [_call(0, id="a", name="f", arguments='{"x":')]},
        {"tool_calls": [_call(0, arguments=" 1}")]},
        {"tool_calls": [_call(1, id="b", name="g")]},
        finish_reason="tool_calls",
    )

    assert [event["type"].removeprefix("content_block_") for event in events] == [
        "message_start",
        *("start", "delta", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("start", "stop"),
        "message_delta",
        "message_stop",
    ]
    message = _added_up(events)
    assert message["content"] == [
        {"type": "text", "text": "let me see"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
    ]
    assert (message["stop_reason"], message["usage"]) == ("tool_use", TOLD)


def test_calls_are_told_apart_however_servers_number_them() -> None:
    """By another id under one number or none, and interleaved."""
    unnumbered = _added_up(
        _streamed(
            {"tool_calls": [_call(None, id="a", name="f", arguments='{"x":1}')]},
            {"tool_calls": [_call(None, id="b", name="f", arguments='{"x":2}')]},
        )
    )
    interleaved = _added_up(
        _streamed(
            {"tool_calls": [_call(0, id="a", name="f", arguments='{"x":')]},
            {"tool_calls": [_call(1, id="b", name="f", arguments='{"x":')]},
            {"tool_calls": [_call(0, arguments="1}"), _call(1, arguments="2}")]},
        )
    )

    for message in (unnumbered, interleaved):
        assert [(b["id"], b["input"]) for b in message["content"]] == [
            ("a", {"x": 1}),
            ("b", {"x": 2}),
        ]
        assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    "delta",
    [
        7,
        [],
        {"content": 7},
        {"content": [7]},
        {"tool_calls": [7, {}]},
        {"tool_calls": [{"function": 7, "index": {}}]},
    ],
)
def test_odd_pieces_break_nothing(delta: Any) -> None:
    """The stream has its beginning and its end."""
    message = _added_up(_streamed(delta, {"content": "x"}))

    assert message["content"][-1] == {"type": "text", "text": "x"}


def test_a_stream_without_any_event_is_an_empty_message() -> None:
    """It begins before it ends."""
    told = MessageFormat("m", "1f").last_events(Terminal(200, usage=USAGE)).split(b"\n")

    assert [line for line in told if line.startswith(b"event")] == [
        b"event: message_start",
        b"event: message_delta",
        b"event: message_stop",
    ]


def test_a_refusal_of_the_model_is_its_text() -> None:
    """Whole and streamed."""
    whole, streamed = (
        _whole({"refusal": "no"}),
        _added_up(_streamed({"refusal": "n"}, {"refusal": "o"})),
    )

    for message in (whole, streamed):
        assert (message["content"], message["stop_reason"]) == (
            [{"type": "text", "text": "no"}],
            "refusal",
        )


def test_pings_and_errors_are_events_by_name() -> None:
    """An error is the same object as the body of an answer is; a limit's facts stand beside it."""
    denial = Denial(
        limit_id="org:budget:day", limit_type="budget", unit="nano_usd", current_usage=1, limit=1
    )
    refusal = Refusal(ErrorCode.BUDGET_EXCEEDED, "spent", denial=denial)
    name, data = error_event(refusal, "anthropic", "r").split(b"\n")[:2]

    assert ping("anthropic") == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "error": {"type": "billing_error", "message": "spent", "code": "BUDGET_EXCEEDED"},
        "request_id": "r",
        "code": "BUDGET_EXCEEDED",
        "limit_type": "budget",
        "current_usage": 1e-9,
        "limit": 1e-9,
        "retry_after": None,
    }


@pytest.mark.parametrize(
    ("duration", "reset"),
    [
        (b"0s", b"1970-01-01T00:01:40Z"),
        (b"120ms", b"1970-01-01T00:01:41Z"),
        (b"1.5s", b"1970-01-01T00:01:42Z"),
        (b"6m0s", b"1970-01-01T00:07:40Z"),
        (b"1h0m0.25s", b"1970-01-01T01:01:41Z"),
    ],
)
def test_resets_are_times(duration: bytes, reset: bytes) -> None:
    """Whole seconds, never too early; all durations are of our own making (`go_duration`)."""
    headers = [
        (b"x-ratelimit-limit-tokens", b"9"),
        (b"x-ratelimit-remaining-tokens", b"4"),
        (b"x-ratelimit-reset-tokens", duration),
    ]

    assert anthropic_headers(headers, "r", 100_000) == [
        (b"request-id", b"r"),
        (b"anthropic-ratelimit-tokens-limit", b"9"),
        (b"anthropic-ratelimit-tokens-remaining", b"4"),
        (b"anthropic-ratelimit-tokens-reset", reset),
    ]


def test_what_is_refused_before_a_route_is_known_has_anthropics_form_below_its_path() -> None:
    """By the connection itself; its id stands in both headers and in the body."""
    answer = refusal_answer(HEAD_TOO_LARGE, b"/v1/messages?beta=true", "r", [])
    head, body = answer.split(b"\r\n\r\n")

    assert {b"x-request-id: r", b"request-id: r"} <= set(head.split(b"\r\n"))
    error = json.loads(body)
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert error["request_id"] == "r"


async def test_an_answer_is_named_and_its_limits_told_at_the_edge() -> None:
    """Whole answers, streams and refusals alike; other surfaces have none of it."""
    gateway = Gateway()
    rates = (RateStatus(id="key:k:requests_per_s", limit=9, remaining=8, reset_ms=1_500),)
    chat = b'{"choices":[{"message":{"content":"x"}}]}'
    body = {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    told = {
        "anthropic-ratelimit-requests-limit": "9",
        "anthropic-ratelimit-requests-remaining": "8",
    }

    gateway.log.worker = lambda _: (Terminal(200, chat, rates=rates),)
    whole = await gateway.client.post("/v1/messages", json=body)
    other = await gateway.client.post("/v1/chat/completions", json=body)
    gateway.log.worker = lambda _: (Started("b1", rates), Terminal(200))
    streamed = await gateway.client.post("/v1/messages", json={**body, "stream": True})
    refused = await gateway.client.post("/v1/messages", json={})

    for answer in (whole, streamed):
        assert told.items() <= dict(answer.headers).items()
        assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    for answer in (whole, streamed, refused):
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert not {name for name in other.headers if name.startswith(("anthropic", "request-id"))}


async def test_a_stream_that_fails_ends_with_the_error_event_and_no_end_mark() -> None:
    """The SDK raises what stands in it."""
    gateway = Gateway()
    chunk = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    failed = Terminal(502, error_code="upstream_interrupted", error_message="broke off")
    gateway.log.worker = lambda _: (Started("b1", ()), Chunk(chunk), failed)
    body = {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}

    answer = await gateway.client.post("/v1/messages", json={**body, "stream": True})

    *_, last = answer.text.split("\n\n")[:-1]
    name, data = last.split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"] == {
        "type": "api_error",
        "message": "broke off",
        "code": "upstream_interrupted",
    }
    assert "message_stop" not in answer.text
