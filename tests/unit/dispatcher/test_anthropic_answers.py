"""A message of a backend that speaks Anthropic's protocol, read as a chat completion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.operations.anthropic.answers import REASONS
from dispatcher.operations.anthropic.chat import read_body
from dispatcher.operations.binding import Answer
from dispatcher.operations.usage.reading import counts_of
from dispatcher.upstream.backend_words import BackendError
from dispatcher.upstream.event_splitter import UpstreamGarbage
from schemas.pricing.counts import TokenCounts

_THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "sig"}
_USAGE = {
    "input_tokens": 5,
    "cache_read_input_tokens": 20,
    "cache_creation_input_tokens": 10,
    "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 3},
    "service_tier": "standard",
}


def _message(content: Any = None, **more: Any) -> bytes:
    said = [{"type": "text", "text": "hi"}] if content is None else content
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x"}
    return json.dumps(
        {**whole, "content": said, "stop_reason": "end_turn", "usage": _USAGE, **more}
    ).encode()


def _read(body: bytes) -> tuple[Answer, dict[str, Any]]:
    answer, relayed = read_body(body, 77)
    return answer, json.loads(relayed)


def test_a_message_becomes_a_chat_completion() -> None:
    """Its time is ours, since messages have none; all input stands under one number, caches as parts of it."""
    answer, told = _read(_message())

    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    assert told == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 77,
        "model": "claude-x",
        "choices": [choice],
        "service_tier": "standard",
        "usage": {
            "prompt_tokens": 35,
            "completion_tokens": 7,
            "total_tokens": 42,
            "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 10},
            "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }
    assert (answer.provider_id, answer.service_tier) == ("msg_1", "standard")
    assert answer.output.take() == "hi"


def test_what_is_booked_is_what_the_backend_told() -> None:
    """Each kind of token under its own name."""
    answer, _ = _read(_message())

    assert answer.usage == TokenCounts(
        35, 7, cached_tokens=20, reasoning_tokens=3, cache_write_tokens=4, cache_write_1h_tokens=6
    )


_COUNT = st.one_of(st.integers(-2, 30), st.none(), st.sampled_from([10**9, 2**50, 1.5, "7", "x"]))


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "input_tokens": _COUNT,
            "output_tokens": _COUNT,
            "cache_read_input_tokens": _COUNT,
            "cache_creation_input_tokens": _COUNT,
            "cache_creation": st.fixed_dictionaries(
                {}, optional={"ephemeral_1h_input_tokens": _COUNT, "ephemeral_5m_input_tokens": _COUNT}
            ),
            "output_tokens_details": st.fixed_dictionaries({"thinking_tokens": _COUNT}),
            "server_tool_use": st.fixed_dictionaries({"web_search_requests": _COUNT}),
        },
    )
)  # fmt: skip
def test_no_count_is_lost_on_the_way(usage: dict[str, Any]) -> None:
    """Whatever a backend tells counts as the same when it is told as a chat completion; impossible counts are none."""
    answer, told = _read(_message([], usage=usage))
    counts = counts_of(usage)

    assert answer.usage == counts
    assert ("usage" in told) is (counts is not None)


def test_thoughts_and_calls_stand_beside_the_text() -> None:
    """Thoughts for people, and as they are to be sent back; arguments are a text."""
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    searched = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    answer, told = _read(_message([_THOUGHT, redacted, searched, use], stop_reason="tool_use"))

    (choice,) = told["choices"]
    function = {"name": "add", "arguments": '{"a":1}'}
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "thinking_blocks": [_THOUGHT, redacted],
        "tool_calls": [{"id": "toolu_1", "type": "function", "function": function}],
    }
    assert answer.output.take() == 'hmadd{"a":1}'


@pytest.mark.parametrize("reason", [*REASONS, "new", None, 7])
def test_every_reason_to_stop_has_a_name_in_openais_form(reason: Any) -> None:
    """What nobody knows is an end like any other; the stop sequence stands beside it."""
    _, told = _read(_message(stop_reason=reason, stop_sequence="##"))

    (choice,) = told["choices"]
    assert choice["finish_reason"] == (REASONS.get(reason, "stop"))
    assert choice["stop_reason"] == "##"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("overloaded_error", 529),
        ("rate_limit_error", 429),
        ("invalid_request_error", 400),
        ("odd", None),
    ],
)
def test_an_error_in_the_place_of_a_message_says_what_it_stands_for(
    kind: str, status: int | None
) -> None:
    """By its type: its own status is 200."""
    body = {"type": "error", "error": {"type": kind, "message": "no"}}
    with pytest.raises(BackendError) as caught:
        read_body(json.dumps(body).encode(), 0)

    words = caught.value.words
    assert (words.type, words.message, words.status) == (kind, "no", status)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"{}", b'{"content":"x"}', b"\xff", b"[" * 2_000 + b"]" * 2_000, b'{"content":[' + b"1," * 100_001 + b"1]}"],
    ids=lambda body: str(body[:12]),
)  # fmt: skip
def test_what_is_no_message_is_garbage(body: bytes) -> None:
    """And fails in no other way."""
    with pytest.raises(UpstreamGarbage):
        read_body(body, 0)


@pytest.mark.parametrize(
    "content",
    [[1, None, {}], [{"type": "text"}], [{"type": "text", "text": 1}], [{"type": "tool_use"}], [{"type": "thinking"}], [{"type": []}]],
    ids=str,
)  # fmt: skip
def test_odd_blocks_cost_nothing_else(content: list[Any]) -> None:
    """The answer is read around them."""
    answer, told = _read(_message(content))

    assert answer.usage is not None
    assert told["choices"][0]["message"]["role"] == "assistant"


def test_half_of_a_surrogate_pair_passes() -> None:
    """As it came."""
    body = _message([{"type": "text", "text": "\ud83d"}])

    _, relayed = read_body(body, 0)
    assert b"\\ud83d" in relayed


def test_events_where_a_message_was_asked_for_are_joined() -> None:
    """Some proxies always stream; without its end such an answer is none."""
    start = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3}}}
    events = [
        start,
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 2}},
    ]  # fmt: skip
    lines = [b"event: x\ndata: %b\n\n" % json.dumps(each).encode() for each in events]

    answer, told = _read(b"".join(lines))

    (choice,) = told["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("ab", "length")
    assert answer.usage == TokenCounts(3, 2)
    with pytest.raises(UpstreamGarbage):
        read_body(b"".join(lines[:-1]), 0)
    failed = b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n'
    with pytest.raises(BackendError):
        read_body(lines[0] + failed, 0)
