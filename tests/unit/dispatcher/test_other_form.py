"""An answer of the other form is given in the one that was asked for (faults.md C6)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.operations.chat import read_body
from dispatcher.operations.chat_stream import ChatStream
from dispatcher.operations.other_form import chunks_of, completion_of, looks_like_events
from dispatcher.upstream.backend_words import BackendError
from dispatcher.upstream.event_splitter import UpstreamGarbage
from dispatcher.upstream.json_reader import value_of
from schemas.pricing.counts import TokenCounts

_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
_CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
_WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hello there"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": None, "tool_calls": [_CALL]}, "finish_reason": "tool_calls"},
    ],
    "usage": _USAGE,
}  # fmt: skip


def _event(**body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _delta(index: int = 0, reason: str | None = None, **delta: Any) -> bytes:
    return _event(
        id="c1", model="m", choices=[{"index": index, "delta": delta, "finish_reason": reason}]
    )


_EVENTS = (
    b": hi\n\n"
    + _delta(role="assistant", content="hello ")
    + _delta(content="there", reasoning_content="hm")
    + _delta(1, tool_calls=[{"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}])
    + _delta(1, tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}])
    + _delta(reason="stop")
    + _delta(1, reason="tool_calls")
    + _event(id="c1", choices=[], usage=_USAGE)
    + b"data: [DONE]\n\n"
)  # fmt: skip


def _payloads(events: bytes) -> list[Any]:
    return [json.loads(event.removeprefix(b"data: ")) for event in events.split(b"\n\n") if event]


@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "pretty"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n\n  "], ids=["", "mark", "blanks"])
def test_json_for_a_stream_becomes_chunks(indent: int | None, mark: bytes) -> None:
    """Messages are deltas, tool calls have their numbers, usage comes last, and is booked as it is."""
    sent, reader = mark + json.dumps(_WHOLE, indent=indent).encode(), ChatStream(relays_usage=True)
    relayed = (
        b"".join(reader.feed(sent[at : at + 7]) for at in range(0, len(sent), 7)) + reader.finish()
    )

    chunk, usage = _payloads(relayed)
    assert (reader.done, reader.usage, reader.garbage) == (True, TokenCounts(11, 7), None)
    assert (chunk["object"], [c["finish_reason"] for c in chunk["choices"]]) == (
        "chat.completion.chunk",
        ["stop", "tool_calls"],
    )
    assert chunk["choices"][0]["delta"]["content"] == "hello there"
    assert chunk["choices"][1]["delta"]["tool_calls"] == [{"index": 0, **_CALL}]
    assert (usage["choices"], usage["usage"], "usage" in chunk) == ([], _USAGE, False)


def test_usage_is_left_out_for_clients_that_did_not_ask() -> None:
    """As in any stream."""
    assert b"usage" not in chunks_of(json.dumps(_WHOLE).encode(), with_usage=False)


def test_an_error_for_a_stream_is_told() -> None:
    """In the backend's words; nothing is relayed."""
    reader = ChatStream(relays_usage=True)
    relayed = (
        reader.feed(b'{"error":{"message":"streaming is disabled","code":"off"}}') + reader.finish()
    )

    assert relayed == b""
    assert reader.error is not None
    assert (reader.error.message, reader.error.code) == ("streaming is disabled", "off")


@pytest.mark.parametrize("sent", [b'{"id": "c1", "choi', b"[1, 2", b'{"a":1}{"b":2}'])
def test_json_that_is_cut_off_is_no_answer(sent: bytes) -> None:
    """Nor are two of them."""
    reader = ChatStream(relays_usage=True)

    assert reader.feed(sent) + reader.finish() == b""
    assert (reader.done, reader.garbage is None) == (False, False)


def test_events_for_a_whole_answer_are_joined() -> None:
    """Texts go on, tool calls by their numbers; usage is the backend's own."""
    assert looks_like_events(_EVENTS)
    answer, body = read_body(_EVENTS)
    read = json.loads(body)

    assert (answer.usage, answer.provider_id) == (TokenCounts(11, 7), "c1")
    assert (read["object"], read["usage"]) == ("chat.completion", _USAGE)
    first, second = read["choices"]
    assert first["message"] == {
        "role": "assistant",
        "content": "hello there",
        "reasoning_content": "hm",
    }
    assert second["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert (first["finish_reason"], second["finish_reason"]) == ("stop", "tool_calls")


@pytest.mark.parametrize(
    "last", [_event(error={"message": "no"}), b'event: error\ndata: {"message":"no"}\n\n']
)
def test_an_error_in_events_for_a_whole_answer_is_told(last: bytes) -> None:
    """Not half of an answer."""
    with pytest.raises(BackendError) as caught:
        read_body(_delta(content="hello") + last)

    assert caught.value.words.message == "no"


@pytest.mark.parametrize(
    "events", [_delta(content="hello"), b"data: hello\n\ndata: [DONE]\n\n", b"data:\n\n"]
)
def test_events_that_do_not_make_a_whole_answer_are_none(events: bytes) -> None:
    """An end is missing, or what they say."""
    with pytest.raises(UpstreamGarbage):
        completion_of(events)


def test_what_is_built_whole_is_bounded() -> None:
    """By its values, before anything is made."""
    assert value_of(b"[" + b"[]," * 100_000 + b"[]]") is None
    assert value_of(b'{"a":[1]}') == {"a": [1]}
