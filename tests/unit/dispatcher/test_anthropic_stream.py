"""The stream of a backend that speaks Anthropic's protocol, relayed as that of a chat completion."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.operations.anthropic.chat_events import MessageStream
from schemas.pricing.counts import TokenCounts

_BEGUN = {"input_tokens": 5, "cache_read_input_tokens": 20, "output_tokens": 1}


def _event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}).encode()
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _delta(kind: str, index: int = 0, **fields: Any) -> bytes:
    return _event("content_block_delta", index=index, delta={"type": kind, **fields})


def _block(index: int = 0, **block: Any) -> bytes:
    return _event("content_block_start", index=index, content_block=block)


def _closed(index: int = 0) -> bytes:
    return _event("content_block_stop", index=index)


START = _event("message_start", message={"id": "msg_1", "model": "claude-x", "usage": _BEGUN})
PING = _event("ping")
TEXT = _block(type="text", text="") + _delta("text_delta", text="he") + PING
TEXT += _delta("text_delta", text="llo") + _closed()
END = _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
STOP = _event("message_stop")
WHOLE = START + PING + TEXT + END + STOP


def _stream(sent: bytes, *, relays_usage: bool = True, step: int = 10_000_000) -> tuple[MessageStream, list[Any]]:  # fmt: skip
    """The stream as it was read, and its chunks."""
    stream = MessageStream(relays_usage=relays_usage, created_s=77)
    relayed = b"".join(stream.feed(sent[at : at + step]) for at in range(0, len(sent), step))
    relayed += stream.finish()
    return stream, [json.loads(each[6:]) for each in relayed.split(b"\n\n") if each]


def _deltas(chunks: list[Any]) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_stream_becomes_that_of_a_chat_completion(step: int) -> None:
    """However it is cut; its first chunk says whose it is, its last what was used."""
    stream, chunks = _stream(WHOLE, step=step)

    assert _deltas(chunks) == [
        {"role": "assistant", "content": "he"},
        {"content": "llo"},
        {},
    ]
    heads = {(c["id"], c["object"], c["created"], c["model"]) for c in chunks}
    assert heads == {("msg_1", "chat.completion.chunk", 77, "claude-x")}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 25,
        "completion_tokens": 9,
        "total_tokens": 34,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0},
    }
    answer = stream.answer()
    assert (stream.done, answer.provider_id) == (True, "msg_1")
    assert answer.usage == TokenCounts(25, 9, cached_tokens=20)
    assert answer.output.take() == "hello"


def test_usage_is_relayed_to_those_who_asked() -> None:
    """And booked all the same."""
    stream, chunks = _stream(WHOLE, relays_usage=False)

    assert all("usage" not in chunk for chunk in chunks)
    assert stream.answer().usage == TokenCounts(25, 9, cached_tokens=20)


def test_nothing_leaves_before_the_first_content() -> None:
    """So another backend may still answer where this one fails behind its first event."""
    stream = MessageStream(relays_usage=True)

    assert stream.feed(START + PING + _block(type="text", text="")) == b""
    assert stream.feed(_event("error", error={"type": "overloaded_error", "message": "x"})) == b""
    assert stream.error is not None
    assert (stream.error.type, stream.error.status) == ("overloaded_error", 529)


def test_calls_are_numbered_and_come_in_pieces() -> None:
    """Whatever the numbers of their blocks; a call that begins whole has its arguments at once."""
    sent = START + TEXT
    for index, name in ((1, "f"), (3, "g")):
        sent += _block(index, type="tool_use", id=f"t{index}", name=name, input={})
        sent += _delta("input_json_delta", index, partial_json="")
        sent += _delta("input_json_delta", index, partial_json='{"a":')
        sent += _delta("input_json_delta", index, partial_json="1}") + _closed(index)
    sent += _block(5, type="tool_use", id="t5", name="h", input={"b": 2})
    end = _event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9})
    _, chunks = _stream(sent + end + STOP)

    calls: dict[int, list[Any]] = {}
    for delta in _deltas(chunks):
        for call in delta.get("tool_calls", ()):
            calls.setdefault(call["index"], []).append(call)
    assert [call[0]["id"] for call in calls.values()] == ["t1", "t3", "t5"]
    assert [call[0]["function"]["name"] for call in calls.values()] == ["f", "g", "h"]
    arguments = ["".join(each["function"]["arguments"] for each in call) for call in calls.values()]
    assert arguments == ['{"a":1}', '{"a":1}', '{"b":2}']
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_thoughts_come_as_they_are_thought_and_once_whole() -> None:
    """With the signature that makes them good for being sent back."""
    sent = START + _block(type="thinking", thinking="", signature="")
    sent += _delta("thinking_delta", thinking="h") + _delta("thinking_delta", thinking="m")
    sent += _delta("signature_delta", signature="si") + _delta("signature_delta", signature="g")
    sent += _closed() + _block(1, type="redacted_thinking", data="xyz") + _closed(1)
    stream, chunks = _stream(sent + _block(2, type="text", text="so") + END + STOP)

    assert _deltas(chunks)[:5] == [
        {"role": "assistant", "content": "", "reasoning_content": "h"},
        {"reasoning_content": "m"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "xyz"}]},
        {"content": "so"},
    ]
    assert stream.answer().output.take() == "hmso"


def test_a_stream_that_breaks_off_has_told_its_input() -> None:
    """What is booked then is that, caches and all, and an estimate of the output."""
    answer = _stream(START + _block(type="text", text="hello"))[0].answer()

    assert answer.usage is None
    assert answer.input_told == TokenCounts(25, 1, cached_tokens=20)
    assert answer.output.take() == "hello"


def test_a_stream_that_said_why_it_ends_is_whole() -> None:
    """Also where its last event is missing, or is that of a proxy of OpenAI's form."""
    stream, _ = _stream(START + TEXT + END)
    other, _ = _stream(START + TEXT + END + b"data: [DONE]\n\n")

    assert (stream.has_ended, stream.done, other.done) == (True, False, True)
    assert not _stream(START + TEXT)[0].has_ended


def test_a_message_where_a_stream_was_asked_for_becomes_one() -> None:
    """With the same chunks, and its usage."""
    body = {"id": "msg_1", "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 1}}  # fmt: skip
    stream, chunks = _stream(json.dumps(body).encode())

    assert _deltas(chunks)[0] == {"role": "assistant", "content": "hello"}
    assert chunks[-1]["usage"]["total_tokens"] == 4
    assert (stream.done, stream.answer().usage) == (True, TokenCounts(3, 1))


def test_usage_of_the_end_counts_and_what_it_leaves_out_was_told_before() -> None:
    """Counts are cumulative; null says nothing."""
    used = {"input_tokens": None, "cache_read_input_tokens": 21, "output_tokens": 9}
    end = _event("message_delta", delta={"stop_reason": "end_turn"}, usage=used)

    answer = _stream(START + TEXT + end + STOP)[0].answer()
    assert answer.usage == TokenCounts(26, 9, cached_tokens=21)


@pytest.mark.parametrize(
    "odd",
    [
        _event("new_kind", x=1),
        _delta("citations_delta", citation={}),
        _delta("input_json_delta", 9, partial_json="lost"),
        _delta("signature_delta", 9, signature="lost"),
        _delta("text_delta", text=7),
        _event("content_block_delta", index=[], delta="x"),
        _event("content_block_start"),
        _event("content_block_stop", index={}),
        _event("message_start", message=7),
        _event("message_delta", delta=[], usage="many"),
        b"data: ping\n\n",
        b": comment\n\n",
        _event("message_delta", delta={}, usage={"output_tokens": -5}),
    ],
    ids=lambda odd: odd[:40].decode(),
)
def test_what_is_odd_costs_nothing_else(odd: bytes) -> None:
    """Unknown events, wrong order and wrong types are passed over; the text is whole."""
    stream, chunks = _stream(START + odd + TEXT + END + STOP)

    assert (stream.done, stream.error, stream.garbage) == (True, None, None)
    assert "".join(delta.get("content", "") for delta in _deltas(chunks)) == "hello"


@pytest.mark.parametrize(
    "sent",
    [b"data: what\n\n", b"data: {\n\n", b'data: {"a":' + b"[" * 3_000 + b"\n\n", b"data: {" + b"," * 100_001 + b"}\n\n"],
    ids=lambda sent: str(sent[:12]),
)  # fmt: skip
def test_what_is_no_event_is_garbage(sent: bytes) -> None:
    """What was good before it has left."""
    stream, chunks = _stream(START + TEXT + sent + END)

    assert stream.garbage is not None
    assert _deltas(chunks) == [{"role": "assistant", "content": "he"}, {"content": "llo"}]


def test_an_error_in_mid_stream_ends_it() -> None:
    """With its words; nothing behind it counts."""
    error = _event("error", error={"type": "api_error", "message": "it broke"})
    stream, chunks = _stream(START + TEXT + error + END)

    assert stream.error is not None
    assert stream.error.message == "it broke"
    assert len(chunks) == 2


def test_thoughts_that_never_end_are_bounded() -> None:
    """There is one at a time; a thousand at once are nothing that could be read."""
    begun = b"".join(_block(index, type="thinking") for index in range(1_001))

    assert _stream(START + begun)[0].garbage is not None


def test_a_long_thought_takes_time_in_proportion_to_its_length() -> None:
    """However small its pieces."""

    def took_s(pieces: int) -> float:
        sent = START + _block(type="thinking") + _delta("thinking_delta", thinking="x") * pieces
        begun = time.perf_counter()
        _stream(sent + _closed())
        return time.perf_counter() - begun

    took_s(100)
    assert took_s(20_000) < 40 * max(took_s(1_000), 1e-3)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([START, PING, TEXT, END, STOP, _closed(), _block(type="thinking"), _delta("thinking_delta", thinking="x"), _block(type="tool_use"), _event("error"), b"\xff\n\n", b"data: \xff\n\n"])
        | st.binary(max_size=9),
        max_size=8,
    )
)  # fmt: skip
def test_nothing_that_a_backend_sends_raises(pieces: list[bytes]) -> None:
    """In whatever order."""
    stream = MessageStream(relays_usage=True)
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    stream.answer()
