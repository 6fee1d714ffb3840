"""A completion is not lost for a field that is only relayed, in JSON and in streams (faults.md C1, C3, C4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.operations.chat import read_body
from dispatcher.operations.chat_stream import ChatStream
from schemas.pricing.counts import TokenCounts

_USAGE = b'{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}'
_COUNTS = TokenCounts(11, 7)
_PARTS = (
    b'[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"42"}]'
)
_ENDED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
_USAGE_EVENT = b'data: {"choices":[],"usage":' + _USAGE + b"}\n\n"
_DONE = b"data: [DONE]\n\n"

VALUES: dict[str, bytes] = {
    "a text": b'"42"', "null": b"null", "a number": b"5", "an object": b'{"a":[1]}', "a list": b"[1,null]",
    "parts": _PARTS, "a truth value": b"true", "half a surrogate pair": b'"\\ud83d"', "a huge number": b"9" * 400,
    "one odd byte": b'"caf\xe9"', "a control character": b'"a\x00b"', "not a number": b"NaN",
}  # fmt: skip
"""What any field may hold."""


def _body(**fields: bytes) -> bytes:
    """A whole answer; each field as raw JSON."""
    all_fields = {
        "id": b'"c1"',
        "choices": b'[{"index":0,"message":{"content":"42"}}]',
        "usage": _USAGE,
    } | fields
    return (
        b"{"
        + b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in all_fields.items())
        + b"}"
    )


def _choice(**fields: bytes) -> bytes:
    inner = b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in fields.items())
    return b"[{" + inner + b"}]"


def _bodies(value: bytes) -> dict[str, bytes]:
    said = b'{"role":"assistant","content":%b}'
    return {
        "id": _body(id=value),
        "choices": _body(choices=value),
        "choice": _body(choices=b"[" + value + b"]"),
        "message": _body(choices=_choice(message=value)),
        "content": _body(choices=_choice(message=said % value)),
        "tool_calls": _body(choices=_choice(message=b'{"content":null,"tool_calls":%b}' % value)),
        "finish_reason": _body(choices=_choice(message=said % b'"42"', finish_reason=value)),
        "index": _body(choices=_choice(message=said % b'"42"', index=value)),
        "logprobs": _body(choices=_choice(message=said % b'"42"', logprobs=value)),
        "unknown": _body(citations=value),
        "object": _body(object=value),
    }


@pytest.mark.parametrize("place", _bodies(b"null"))
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_field_of_a_whole_answer_fails_it(value: bytes, place: str) -> None:
    """Its usage is the backend's own; what is relayed is JSON, byte for byte where it was before."""
    body = _bodies(value)[place]
    answer, relayed = read_body(body)

    assert answer.usage == _COUNTS
    assert isinstance(json.loads(relayed), dict)
    is_json = value not in (VALUES["a control character"], VALUES["not a number"])
    assert relayed == (body.decode(errors="replace").encode() if is_json else relayed)


@pytest.mark.parametrize(
    "place", ["choices", "choice", "delta", "content", "id", "tool_calls", "unknown"]
)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_field_of_an_event_fails_its_stream(value: bytes, place: str) -> None:
    """It is relayed, and the stream goes on to its end and its usage."""
    events = {
        "choices": b'{"choices":%b}' % value,
        "choice": b'{"choices":[%b]}' % value,
        "delta": b'{"choices":[{"index":0,"delta":%b}]}' % value,
        "content": b'{"choices":[{"index":0,"delta":{"content":%b}}]}' % value,
        "id": b'{"id":%b,"choices":[{"index":0,"delta":{"content":"x"}}]}' % value,
        "tool_calls": b'{"choices":[{"index":0,"delta":{"tool_calls":%b}}]}' % value,
        "unknown": b'{"x":%b,"choices":[{"index":0,"delta":{"content":"x"}}]}' % value,
    }
    reader = ChatStream(relays_usage=True)
    relayed = reader.feed(b"data: " + events[place] + b"\n\n" + _ENDED + _USAGE_EVENT + _DONE)

    assert (reader.done, reader.usage, reader.error, reader.garbage) == (True, _COUNTS, None, None)
    payloads = [event.removeprefix(b"data: ") for event in relayed.split(b"\n\n") if event]
    assert [isinstance(json.loads(payload), dict) for payload in payloads] == [True, True, True]


@pytest.mark.parametrize(
    ("content", "text"),
    [(b'"42"', "42"), (_PARTS, "hm42"), (b"null", ""), (b"{}", ""), (b"5", "")],
    ids=["a text", "parts", "null", "an object", "a number"],
)
def test_text_is_found_where_it_is_text(content: bytes, text: str) -> None:
    """For estimates."""
    body = _body(choices=_choice(message=b'{"content":%b}' % content))
    reader = ChatStream(relays_usage=True)
    reader.feed(b'data: {"choices":[{"delta":{"content":%b}}]}\n\n' % content)

    assert read_body(body)[0].output.take() == reader.output.take() == text


def test_a_byte_order_mark_before_an_answer_is_dropped() -> None:
    """C3."""
    answer, relayed = read_body(b"\xef\xbb\xbf" + _body())

    assert (answer.usage, relayed) == (_COUNTS, _body())


def test_a_call_that_is_numbered_keeps_its_number() -> None:
    """As the backend's id of it."""
    assert read_body(_body(id=b"17"))[0].provider_id == "17"
    assert read_body(_body(id=b"9" * 400))[0].provider_id is None


def test_signs_of_life_are_no_chunks() -> None:
    """Some servers send words where the standard has comments."""
    reader = ChatStream(relays_usage=True)

    assert reader.feed(b"data: ping\n\ndata: null\n\ndata: keep-alive\n\nevent: ping\n\n") == b""
    assert (reader.garbage, reader.error) == (None, None)


def test_good_events_leave_before_one_that_cannot_be_read() -> None:
    """C17: also when they come in one piece."""
    reader = ChatStream(relays_usage=True)
    relayed = reader.feed(_ENDED + b"data: Internal Server Error\n\n" + _USAGE_EVENT)

    assert relayed.count(b"data: ") == 1
    assert reader.garbage is not None
    assert (reader.said.message, reader.feed(_DONE), reader.finish()) == (
        "Internal Server Error",
        b"",
        b"",
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "choices", "delta", "message", "content", "usage", "index", "x", "tool_calls"]),
        inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["id", "choices", "usage", "object", "x"]), _JSON))
def test_no_object_raises(sent: dict[str, Any]) -> None:
    """Whatever it holds, but for an error."""
    body = json.dumps(sent).encode()
    reader = ChatStream(relays_usage=True)

    assert read_body(body)[1] == body
    reader.feed(b"data: " + body + b"\n\n")
    assert reader.garbage is None
