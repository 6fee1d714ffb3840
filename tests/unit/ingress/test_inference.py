"""The native route's mapping to a chat completion and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingress.apis.answer_format import DONE
from ingress.apis.native.inference import InferenceFormat, parse
from ingress.apis.parsed_request import ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.frames import Terminal, Usage
from tests.support.configuration import snapshot

CLIENT_ID = "7f2c1c9e-2f5e-4f0e-9a57-0a3d2c1b4e5f"
CALLER = Caller("k", "acme", None, None, None)
FORMAT = InferenceFormat(CLIENT_ID, "echo")


def _parsed(**fields: Any) -> ParsedRequest | Refusal:
    whole = {"request_id": CLIENT_ID, "model": "echo", "payload": "hi", **fields}
    return parse(whole, snapshot(), CALLER)


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"request_id": None}, 400, "request_id"),
        ({"request_id": "abc"}, 400, "request_id"),
        ({"request_id": f"{{{CLIENT_ID}}}"}, 400, "request_id"),
        ({"request_id": 7}, 400, "request_id"),
        ({"model": None}, 400, "model"),
        ({"model": "nope"}, 404, "model"),
        ({"payload": None}, 400, "payload"),
        ({"payload": ""}, 400, "payload"),
        ({"payload": {}}, 400, "payload"),
        ({"payload": ["x"]}, 400, "payload[0]"),
        ({"parameters": []}, 400, "parameters"),
        ({"parameters": {"model": "x"}}, 400, "parameters.model"),
        ({"parameters": {"messages": []}}, 400, "parameters.messages"),
        ({"parameters": {"stream": True}}, 400, "parameters.stream"),
        ({"parameters": {"max_tokens": 0}}, 400, "parameters.max_tokens"),
        ({"stream": "yes"}, 400, "stream"),
        ({"temperature": 1}, 400, "temperature"),
    ],
)
def test_a_wrong_field_is_named_as_the_client_wrote_it(
    fields: dict[str, Any], status: int, param: str
) -> None:
    """Errors speak of payload and parameters, not of the chat completion behind them."""
    refusal = _parsed(**fields)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (status, param)
    assert status == 404 or refusal.message.startswith(param)


def test_text_becomes_one_user_message() -> None:
    """Parameters are merged beside it."""
    parsed = _parsed(parameters={"max_tokens": 5, "temperature": 0.5}, stream=True)

    assert isinstance(parsed, ParsedRequest)
    body = json.loads(parsed.call.payload)
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert (body["max_tokens"], body["temperature"], body["stream"]) == (5, 0.5, True)
    assert parsed.call.stream


def test_an_answer_has_the_native_shape() -> None:
    """Under the id the client gave, with the usage that was booked."""
    completion = {"choices": [{"message": {"content": "hello"}}], "id": "x"}
    terminal = Terminal(
        http_status=200,
        body=json.dumps(completion).encode(),
        backend="b1",
        latency_ms=12,
        usage=Usage(3, 4, None, estimated=False),
    )

    body = FORMAT.body(terminal)

    assert isinstance(body, bytes)
    assert json.loads(body) == {
        "request_id": CLIENT_ID,
        "model": "echo",
        "output": "hello",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        "backend": "b1",
        "latency_ms": 12,
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": 5}', b"\xff"])
def test_a_backend_that_answers_nonsense_is_an_upstream_error(body: bytes) -> None:
    """502, not an exception."""
    refusal = FORMAT.body(Terminal(http_status=200, body=body))

    assert isinstance(refusal, Refusal)
    assert refusal.status == 502


def test_a_stream_is_translated_event_by_event() -> None:
    """Comments, usage chunks and empty deltas leave no event behind."""
    chunks = (
        b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
        b'data: {"choices": [{"delta": {"content": "he"}}]}\n\n'
        b": comment\n\n"
        b'data: {"choices": [{"delta": {"content": "llo"}}]}\n\n'
        b'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n'
    )

    events = FORMAT.events(chunks).split(b"\n\n")

    assert [json.loads(e.removeprefix(b"data: ")) for e in events if e] == [
        {"request_id": CLIENT_ID, "delta": "he"},
        {"request_id": CLIENT_ID, "delta": "llo"},
    ]
    assert FORMAT.last_events(Terminal(http_status=200)).endswith(DONE)
