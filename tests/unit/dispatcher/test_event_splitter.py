"""Server-sent events are read as the WHATWG standard says (faults.md C2, C3)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.upstream.event_splitter import EventSplitter, data_of

_MARK = b"\xef\xbb\xbf"
_ENDS = (b"\n", b"\r", b"\r\n")


def _read(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    """All events of a stream: data and name."""
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.split(piece)]
    return [data_of(event) for event in (*events, splitter.last()) if event]


def _oracle(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The standard's algorithm line by line (HTML 9.2.6), and what it discards at the end as well."""
    text = stream.removeprefix(_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found, data, name = [], list[bytes](), b""
    for line in (*text.split(b"\n"), b""):
        if not line:
            if b"".join(data).strip():
                found.append((b"\n".join(data).strip(), name))
            data, name = [], b""
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.strip())
        elif field == b"event":
            name = value.strip()
    return found


@pytest.mark.parametrize("end", _ENDS, ids=["LF", "CR", "CRLF"])
def test_a_line_may_end_in_each_of_three_ways(end: bytes) -> None:
    """A blank line ends the event, comments and other fields are passed over."""
    lines = (
        b": hi",
        b"id: 7",
        b"retry: 9",
        b"event: x",
        b"data: a",
        b"data:b",
        b"",
        b"data: c",
        b"",
    )

    assert _read([end.join(lines) + end]) == [(b"a\nb", b"x"), (b"c", b"")]


def test_an_event_that_ends_in_carriage_returns_is_not_held_back() -> None:
    """Whether a line feed follows is not waited for."""
    splitter = EventSplitter()

    assert splitter.split(b"data: a\r\r") == [b"data: a"]
    assert splitter.split(b"\ndata: b\r\n\r\n") == [b"data: b"]


def test_one_byte_order_mark_is_dropped_wherever_it_is_cut() -> None:
    """At the beginning only."""
    for cut in range(4):
        stream = _MARK + b"data: a\n\n"
        assert _read([stream[:cut], stream[cut:]]) == [(b"a", b"")]


def test_an_event_without_its_blank_line_is_read_at_the_end() -> None:
    """The standard discards it; a completion must not be lost for a line end."""
    assert _read([b"data: a\n\ndata: [DONE]"]) == [(b"a", b""), (b"[DONE]", b"")]
    assert _read([b"data: a\n\n: bye"]) == [(b"a", b"")]


def test_a_field_is_known_by_its_whole_name() -> None:
    """Case counts, and so does a blank before it."""
    assert _read([b"database: a\nDATA: b\n data: c\ndata: d\n\n"]) == [(b"d", b"")]


_LINE = st.sampled_from(
    [b"data: a", b"data:b", b"data: ", b"data:  c", b"event: x", b"id: 1", b": hi", b"", b"", b"x", b"\xc3\xa9"]
)  # fmt: skip


@given(
    st.lists(st.tuples(_LINE, st.sampled_from(_ENDS)), max_size=12),
    st.lists(st.integers(0, 150), max_size=8),
    st.booleans(),
)
def test_any_lines_in_any_pieces_read_as_the_standard_says(
    lines: list[tuple[bytes, bytes]], cuts: list[int], has_mark: bool
) -> None:
    """Line ends mixed, and cut anywhere."""
    stream = (_MARK if has_mark else b"") + b"".join(line + end for line, end in lines)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]

    filled = [event for event in _read(pieces) if event[0]]
    assert filled == _oracle(stream)
