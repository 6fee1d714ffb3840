"""Forms with files: whatever pieces they come in, and whatever is wrong with them."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.http.form_data import (
    PARTS_MAX,
    Malformed,
    MultipartReader,
    PartBegun,
    PartData,
    PartEvent,
    boundary_of,
)

_FORM = (
    b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nline\r\n--A\r\n--\r\n\r\n--B--\r\nepilogue"
)


def _read(body: bytes, *sizes: int, boundary: bytes = b"B") -> tuple[list[PartEvent], bool]:
    """What a body gives in pieces of so many bytes, data put together; and whether it ended."""
    reader, events = MultipartReader(boundary), list[PartEvent]()
    for size in (*sizes, len(body)):
        piece, body = body[:size], body[size:]
        for event in reader.feed(piece):
            last = events[-1] if events else None
            if isinstance(event, PartData) and isinstance(last, PartData):
                events[-1] = PartData(last.data + event.data)
            else:
                events.append(event)
    return events, reader.is_over


@given(st.lists(st.integers(1, 40), max_size=200))
def test_a_form_is_the_same_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    """A delimiter may be cut anywhere, and what only begins like one is content."""
    events, is_over = _read(_FORM, *sizes)

    assert is_over
    assert events == [
        PartBegun("purpose", None),
        PartData(b"batch"),
        PartBegun("file", "a.jsonl"),
        PartData(b"line\r\n--A\r\n--\r\n"),
    ]


@given(
    st.binary(max_size=300),
    st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=30).filter(
        lambda name: "\\" not in name
    ),
    st.lists(st.integers(1, 50), max_size=40),
)
def test_what_httpx_writes_is_read_as_it_was_meant(
    content: bytes, name: str, sizes: list[int]
) -> None:
    """Names with quotes and of any language; content of any bytes."""
    request = httpx.Request(
        "POST", "http://x/", data={"purpose": "b"}, files={"file": (name, content)}
    )
    boundary = boundary_of(request.headers["content-type"].encode())
    assert boundary is not None

    events, is_over = _read(request.read(), *sizes, boundary=boundary)

    assert is_over
    assert events[:3] == [PartBegun("purpose", None), PartData(b"b"), PartBegun("file", name)]
    assert b"".join(each.data for each in events[3:] if isinstance(each, PartData)) == content


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"x" * 10_000, "boundary of its Content-Type"),
        (b"--B\r\n\r\n\r\ndata", "has no header Content-Disposition"),
        (b"--B\r\nContent-Disposition: attachment\r\n\r\n", "has no header Content-Disposition"),
        (b"--B\r\nX: " + b"x" * 9_000 + b"\r\n\r\n", "bytes of headers"),
        (b"--B junk\r\n", "follows a boundary"),
        (b"--B" + b" " * 1_000, "follows a boundary"),
        (b'--B\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n', "not UTF-8"),
        (
            b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * (PARTS_MAX + 1),
            "parts",
        ),
    ],
)
def test_what_is_no_form_is_named(body: bytes, why: str) -> None:
    """And nothing that follows is looked at."""
    events, _ = _read(body)

    assert isinstance(events[-1], Malformed)
    assert why in events[-1].why


def test_a_form_without_its_last_delimiter_is_not_over() -> None:
    """Whoever reads on to the end of the body sees that it was cut."""
    assert not _read(_FORM[:-15])[1]


def test_a_reader_holds_no_more_than_a_delimiter_of_content() -> None:
    """However much comes."""
    reader = MultipartReader(b"B")
    list(reader.feed(b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n'))

    given_out = sum(len(e.data) for e in reader.feed(b"x" * 1_000_000) if isinstance(e, PartData))

    assert given_out >= 1_000_000 - len(b"\r\n--B")


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        (b'name="file"; filename="C:\\\\a\\"b.txt"', 'C:\\a"b.txt'),
        (b"name=file; filename=plain.txt", "plain.txt"),
        (b"name=file; filename*=utf-8''%C3%A4.txt", "ä.txt"),
        (b'name="file"; filename=""', ""),
    ],
)
def test_names_are_read_as_programs_write_them(disposition: bytes, filename: str) -> None:
    """Curl escapes, mail libraries encode, some quote nothing."""
    head = b"--B\r\ncontent-disposition: form-data; " + disposition + b"\r\n\r\n"

    assert _read(head)[0] == [PartBegun("file", filename)]


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        (b"multipart/form-data", None),
        (b"multipart/mixed; boundary=abc", None),
        (b"application/json", None),
        (b"multipart/form-data; boundary=" + b"x" * 71, None),
    ],
)
def test_a_boundary_is_announced(content_type: bytes, boundary: bytes | None) -> None:
    """Up to 70 characters of it (RFC 2046)."""
    assert boundary_of(content_type) == boundary
