"""What an event's id says, and which texts are none."""

from __future__ import annotations

import pytest

from ingress.http.event_ids import EventId, numbered, read_event_id

REQUEST = "01a21bb1-2ed6-77e7-9e49-d6cabf0651bd"


def test_an_id_is_read_as_it_was_written() -> None:
    """By whatever ingress; a fence is an epoch in its upper half."""
    fence = (1 << 32) + 1
    event = numbered(b"data: 1\n\ndata: 2\n\n", f"{REQUEST}/{fence}-7".encode())
    ids = [line[4:] for line in event.split(b"\n") if line.startswith(b"id: ")]

    assert list(map(read_event_id, ids)) == [EventId(REQUEST, fence, 7, place) for place in (0, 1)]


def test_every_event_has_an_id_and_keeps_its_bytes() -> None:
    """Also one of several lines."""
    told = numbered(b"event: a\ndata: 1\n\ndata: 2\n\n", b"r/1-2")

    assert told == b"event: a\ndata: 1\nid: r/1-2-0\n\ndata: 2\nid: r/1-2-1\n\n"


def test_events_that_the_client_has_are_left_out_and_the_others_keep_their_ids() -> None:
    """A connection may break within a frame."""
    assert numbered(b"data: 1\n\ndata: 2\n\n", b"r/1-2", 0) == b"data: 2\nid: r/1-2-1\n\n"
    assert numbered(b"data: 1\n\n", b"r/1-2", 5) == b""
    assert numbered(b"", b"r/1-2") == b""


@pytest.mark.parametrize(
    "text",
    [b"", b"7", b"r/1-2-0", f"{REQUEST}/1-2".encode(), f"{REQUEST}/1-2--1".encode(), f"{REQUEST}/1-2-{'9' * 40}".encode(), b"\xff" * 40],
)  # fmt: skip
def test_what_is_no_id_of_ours_is_none(text: bytes) -> None:
    """Nor is a number that no frame has."""
    assert read_event_id(text) is None
