"""Text and tool calls reach a native client whatever shape they came in (faults.md C7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.apis.native.inference import InferenceFormat
from ingress.apis.native.said import Said, said_in
from schemas.frames import Terminal

_FORMAT = InferenceFormat("7f2c1c9e-2f5e-4f0e-9a57-0a3d2c1b4e5f", "echo")
_CALL = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
_PARTS = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}, {"text": "2"}]

CHOICES: dict[str, tuple[Any, Said | None]] = {
    "a text": ([{"message": {"content": "42"}}], Said("42")),
    "message null beside a delta": ([{"message": None, "delta": {"content": "42"}}], Said("42")),
    "delta null beside a message": ([{"delta": None, "message": {"content": "42"}}], Said("42")),
    "parts": ([{"message": {"content": _PARTS}}], Said("42")),
    "a number": ([{"message": {"content": 42}}], Said()),
    "a tool call": ([{"message": {"content": None, "tool_calls": [_CALL]}}], Said(tool_calls=[_CALL])),
    "a refusal": ([{"message": {"content": None, "refusal": "no"}}], Said(refusal="no")),
    "half a surrogate pair": ([{"delta": {"content": "a\ud83d"}}], Said("a?")),
    "an object of choices": ({"message": {"content": "42"}}, Said("42")),
    "null before it": ([None, {"message": {"content": "42"}}], Said("42")),
    "none": ([], None), "null": (None, None), "no message": ([{}], None), "a text for a list": ("x", None),
}  # fmt: skip


@pytest.mark.parametrize(("choices", "said"), CHOICES.values(), ids=CHOICES)
def test_what_is_said_is_found(choices: Any, said: Said | None) -> None:
    """Whatever is null, missing or of another type."""
    assert said_in(json.dumps({"choices": choices}).encode()) == said


def test_a_tool_call_is_no_empty_output_without_a_word() -> None:
    """It stands beside the text, whole and in streams, as the backend sent it."""
    body = {"choices": [{"message": {"content": None, "tool_calls": [_CALL]}}]}
    whole = _FORMAT.body(Terminal(http_status=200, body=json.dumps(body).encode()))
    assert isinstance(whole, bytes)
    read = json.loads(whole)
    assert (read["output"], read["tool_calls"]) == ("", [_CALL])

    chunk = {"choices": [{"message": None, "delta": {"tool_calls": [_CALL]}}]}
    event = _FORMAT.events(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    assert json.loads(event.removeprefix(b"data: ")) == {
        "request_id": _FORMAT.client_request_id,
        "tool_calls": [_CALL],
    }


def test_a_stream_of_chunks_with_a_message_that_is_null_has_its_text() -> None:
    """CherryHQ/cherry-studio#8065."""
    chunks = b"".join(
        b'data: {"choices":[{"message":null,"delta":{"content":"%b"}}]}\n\n' % text
        for text in (b"hello ", b"there")
    )

    texts = [json.loads(e[6:])["delta"] for e in _FORMAT.events(chunks).split(b"\n\n") if e]
    assert texts == ["hello ", "there"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "delta", "content", "text", "type", "tool_calls", "refusal"]),
        inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(_JSON)
def test_no_shape_raises(sent: Any) -> None:
    """Neither whole nor as an event."""
    body = json.dumps(sent).encode()
    _FORMAT.body(Terminal(http_status=200, body=body))
    _FORMAT.events(b"data: " + body + b"\n\n")
