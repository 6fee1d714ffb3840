"""Reading what backends answer: usage, text, and what of a stream is relayed."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.operations.binding import Answer
from dispatcher.operations.chat import read_body
from dispatcher.operations.chat_stream import ChatStream
from dispatcher.upstream.event_splitter import EVENT_BYTES_MAX, UpstreamGarbage
from schemas.pricing.counts import TokenCounts

_DONE = b"data: [DONE]\n\n"


def _event(**body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _delta(text: str, **more: Any) -> bytes:
    return _event(id="c1", choices=[{"index": 0, "delta": {"content": text}}], **more)


_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
_STREAM = (
    b": comment\n\n"
    + _delta("he", usage=None)
    + _delta("llo ✓").replace(b"\n", b"\r\n")
    + _event(id="c1", choices=[], usage=_USAGE)
    + _DONE
)


def _body(usage: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}).encode()


def test_a_whole_answer_is_read() -> None:
    """The backend's id, its counts with their details, the text of all choices."""
    choices = [
        {"message": {"content": "a"}},
        {"message": {"content": None}},
        {"message": {"content": "b"}},
    ]
    body = json.dumps({"id": "c1", "choices": choices, "usage": _USAGE, "x": {"unknown": 1}})

    answer, relayed = read_body(body.encode())
    assert (answer.provider_id, answer.usage) == ("c1", TokenCounts(9, 7, 4, 3))
    assert (answer.output.take(), relayed) == ("ab", body.encode())


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": -1},
        {"prompt_tokens": 1, "completion_tokens": -1},
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": -2}},
        {"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": -2}},
        {"prompt_tokens": "many"},
        {"prompt_tokens": True},
        {"prompt_tokens": 1, "x": [[]] * 10_000},
        {},
        5,
    ],
    ids=[
        "none",
        "negative input",
        "negative output",
        "more cached than input",
        "negative cached",
        "negative reasoning",
        "text for a number",
        "a truth value",
        "too large",
        "empty",
        "no object",
    ],
)
def test_impossible_counts_are_no_counts(usage: object) -> None:
    """They are estimated instead, because they would corrupt the books."""
    assert read_body(_body(usage))[0].usage is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"\xef\xbb\xbf",
        b"[]",
        b"<html>",
        b"[" * 100_000,
        b'{"x":' * 100_000,
        b'{"choices":[' + b"{}," * 1_000_001 + b"{}]}",
        b'{"x": }',
        b'"x"',
    ],
)
def test_an_answer_of_another_shape_is_garbage(body: bytes) -> None:
    """One exception for all of it."""
    with pytest.raises(UpstreamGarbage):
        read_body(body)


def test_a_stream_is_read_while_it_is_relayed() -> None:
    """Text, usage, id and its proper end."""
    reader = ChatStream(relays_usage=True)
    reader.feed(_STREAM)

    read = reader.answer()
    assert read == Answer("c1", TokenCounts(9, 7, 4, 3), reader.output)
    assert read.output.take() == "hello ✓"
    assert (reader.done, reader.error, reader.garbage) == (True, None, None)


@given(st.lists(st.integers(0, len(_STREAM)), max_size=12), st.booleans())
def test_how_a_stream_is_cut_into_pieces_does_not_matter(
    cuts: list[int], relays_usage: bool
) -> None:
    """Also not inside a character, a line end or a blank line."""
    whole = ChatStream(relays_usage=relays_usage)
    relayed_whole = whole.feed(_STREAM)
    pieces = ChatStream(relays_usage=relays_usage)
    places = [0, *sorted(cuts), len(_STREAM)]
    relayed = b"".join(pieces.feed(_STREAM[start:end]) for start, end in itertools.pairwise(places))

    assert relayed == relayed_whole
    assert pieces == whole


def test_only_whole_events_leave() -> None:
    """What is not complete waits for its blank line."""
    reader = ChatStream(relays_usage=True)
    first, rest = _delta("he")[:-1], _delta("he")[-1:]

    assert reader.feed(first) == b""
    assert reader.feed(rest) == _delta("he")


def test_the_usage_chunk_is_removed_for_clients_that_did_not_ask() -> None:
    """And so is ``"usage": null`` of the other chunks; usage is known all the same."""
    reader = ChatStream(relays_usage=False)
    relayed = reader.feed(_STREAM)

    assert b"usage" not in relayed
    assert reader.usage == TokenCounts(9, 7, 4, 3)
    assert [
        json.loads(event.removeprefix(b"data: "))["choices"][0]["delta"]["content"]
        for event in relayed.split(b"\n\n")
        if event
    ] == ["he", "llo ✓"]


def test_the_usage_chunk_is_relayed_to_clients_that_asked() -> None:
    """As the backend sent it."""
    assert _event(id="c1", choices=[], usage=_USAGE) in ChatStream(relays_usage=True).feed(_STREAM)


def test_text_that_looks_like_usage_is_left_alone() -> None:
    """Inside a JSON string its quotes are escaped."""
    text = ', "usage": null'
    relayed = ChatStream(relays_usage=False).feed(_delta(text))

    assert json.loads(relayed.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == text


def test_an_event_of_several_lines_becomes_one() -> None:
    """As the standard joins them."""
    reader = ChatStream(relays_usage=True)

    assert (
        reader.feed(b'event: x\ndata: {"choices":\ndata: []}\n\n') == b'data: {"choices": []}\n\n'
    )


def test_an_error_event_is_noted_and_not_relayed() -> None:
    """The client gets an error of ours, in its own place."""
    reader = ChatStream(relays_usage=True)

    assert reader.feed(_event(error={"message": "boom"})) == b""
    assert reader.error is not None
    assert reader.error.message == "boom"


@pytest.mark.parametrize(
    "received", [b"data: {\n\n", b"data: hello\n\n", b"x" * (EVENT_BYTES_MAX + 1)]
)
def test_a_stream_of_another_shape_is_garbage(received: bytes) -> None:
    """Not JSON, or an event without end."""
    reader = ChatStream(relays_usage=True)
    reader.feed(_delta("he"))

    assert reader.feed(received) == b""
    assert reader.garbage is not None


_ODD = b"caf\xe9 \xf0\x9f\x98"
_REPAIRED = "caf\ufffd \ufffd"


def test_odd_bytes_in_a_text_are_relayed_as_replacement_characters() -> None:
    """They are only relayed, so they do not fail the call; usage is the backend's own."""
    body = b'{"id":"c\xff","choices":[{"message":{"content":"' + _ODD + b'"}}],"usage":'
    answer, relayed = read_body(body + json.dumps(_USAGE).encode() + b"}")

    assert json.loads(relayed)["choices"][0]["message"]["content"] == _REPAIRED
    assert answer.usage == TokenCounts(9, 7, 4, 3)


def test_odd_bytes_in_a_stream_are_relayed_as_replacement_characters() -> None:
    """In the event that has them; its neighbours stay as they are."""
    reader = ChatStream(relays_usage=True)
    relayed = reader.feed(_delta("ok") + _delta("@").replace(b"@", _ODD))

    assert relayed.startswith(_delta("ok"))
    assert reader.output.take() == "ok" + _REPAIRED


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("c1", "c1"), ("x" * 9_000_000, "x" * 128), ("a\nb", None), ("", None), (None, None)],
    ids=["usual", "9 MB", "line end", "empty", "none"],
)
def test_an_id_is_kept_within_bounds(sent: str | None, kept: str | None) -> None:
    """It goes into records, which must never be too large for the log."""
    body = json.dumps({"id": sent, "choices": []}).encode()

    assert read_body(body)[0].provider_id == kept


def test_reading_a_long_event_in_small_pieces_takes_linear_time() -> None:
    """Bytes that are copied once per piece would take minutes here."""
    reader = ChatStream(relays_usage=True)
    event = _delta("x" * 2_000_000)
    began_s = time.monotonic()
    for start in range(0, len(event), 16):
        reader.feed(event[start : start + 16])

    assert reader.output.take() == "x" * 2_000_000
    assert time.monotonic() - began_s < 3


_PIECES = st.lists(
    st.sampled_from(
        [
            _delta("a"),
            _DONE,
            b"data:",
            b"\n\n",
            b"\r\n",
            b"\r",
            b'{"choices":[',
            b'{"id":"',
            b'"}',
            b"]}",
            b"[" * 2_000,
            b"\xff",
            b"\xef\xbb\xbf",
            b"\x00",
            b'{"usage":{"prompt_tokens":1e999}}',
            b'{"error":null}',
            b": ping",
            b"-1",
            b"null",
        ]
    )
    | st.binary(max_size=8),
    max_size=30,
)


@settings(max_examples=1_000)
@given(_PIECES)
def test_whatever_arrives_is_read_or_garbage(pieces: list[bytes]) -> None:
    """No other exception leaves the reader of a stream, nor that of a body."""
    reader = ChatStream(relays_usage=False)
    with suppress(UpstreamGarbage):
        for piece in pieces:
            reader.feed(piece)
    with suppress(UpstreamGarbage):
        read_body(b"".join(pieces))
