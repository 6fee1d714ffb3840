"""Answers whose messages, chunks or events begin and end where they should not."""

from __future__ import annotations

import asyncio

from tests.support.fakes.shapes.wire import (
    CHUNKED,
    DONE,
    LAST,
    STREAM,
    Shape,
    Wire,
    chunk,
    completion,
    event,
    head,
    says,
    sized,
)

_BODY = completion()
_CHUNKED = head(b"200 OK", CHUNKED)
_BROKEN = (502,)
_TORN = (0, 502)
"""A cut that comes together with the first event may be read before it."""
_LENIENT_STREAM = (0, 200)


def _raw(
    name: str, *pieces: bytes, statuses: tuple[int, ...] = _BROKEN, booked: str = "estimated"
) -> Shape:
    return Shape(name, "framing", says(*pieces), statuses, booked)  # type: ignore[arg-type]


def _stream(
    name: str, *pieces: bytes, statuses: tuple[int, ...] = _TORN, booked: str = "estimated"
) -> Shape:
    first = head(b"200 OK", STREAM)
    return Shape(name, "framing", says(first, *pieces), statuses, booked, stream=True)  # type: ignore[arg-type]


def _with_length(*lengths: bytes) -> bytes:
    return head(b"200 OK", *(b"Content-Length: " + length for length in lengths)) + _BODY


async def _answers_twice(wire: Wire) -> None:
    """A second answer comes when nobody asks, and the connection stays open."""
    twin = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY
    wire.keeps_open = True
    await wire.send(twin)
    await asyncio.sleep(0.05)
    await wire.send(twin.replace(b"hello there", b"of another."))


SHAPES = (
    _raw("chunk-size-letters", _CHUNKED + b"zz\r\n" + _BODY + b"\r\n0\r\n\r\n"),
    _raw("chunk-size-negative", _CHUNKED + b"-5\r\n" + _BODY + b"\r\n0\r\n\r\n"),
    _raw("chunk-size-overflow", _CHUNKED + b"f" * 40 + b"\r\n" + _BODY),
    _raw(
        "chunk-extension",
        _CHUNKED + chunk(_BODY, b";x=" + b"y" * 1_000_000) + b"0\r\n\r\n",
        statuses=(200, 502),
        booked="exact",
    ),
    _raw("chunk-cut", _CHUNKED + b"ffff\r\n" + _BODY),
    _raw("chunk-without-end", _CHUNKED + chunk(_BODY), statuses=(200, 502)),
    _raw(
        "chunk-bare-line-feeds",
        _CHUNKED + b"%x\n%b\n0\n\n" % (len(_BODY), _BODY),
        statuses=(200, 502),
    ),
    _raw(
        "trailer-flood",
        _CHUNKED + chunk(_BODY) + b"0\r\n" + b"X: y\r\n" * 20_000,
        statuses=(200, 502),
    ),
    _raw("length-too-long", _with_length(b"%d" % (len(_BODY) + 100))),
    _raw("length-too-short", _with_length(b"10")),
    _raw("length-negative", _with_length(b"-1")),
    _raw("length-of-letters", _with_length(b"1_0")),
    _raw("length-huge", _with_length(b"9" * 30)),
    _raw("length-twice", _with_length(b"%d" % len(_BODY), b"5")),
    _raw(
        "length-and-chunked",
        head(b"200 OK", CHUNKED, b"Content-Length: 3") + chunk(_BODY) + b"0\r\n\r\n",
        statuses=(200, 502),
    ),
    _raw("no-head", _BODY),
    _raw("close-at-once"),
    _raw("half-a-head", b"HTTP/1.1 200 OK\r\nContent-Type: appl"),
    Shape("answers-twice", "framing", _answers_twice, (200,), "exact"),
    _stream("stream-cut-in-event", event() + b'data: {"id":"c1","choi'),
    _stream("stream-without-done", event() + event(b'"there"'), statuses=_LENIENT_STREAM),
    _stream(
        "stream-without-blank-lines",
        (event() + LAST + DONE).replace(b"\n\n", b"\n"),
        statuses=(0, 200, 502),
    ),
    _stream(
        "stream-goes-on",
        event() + LAST + DONE + event(b'"more"') * 3,
        statuses=_LENIENT_STREAM,
        booked="exact",
    ),
    _stream("stream-of-json", _BODY, statuses=(0, 200, 502)),
    Shape("json-is-stream", "framing", says(sized(event() + LAST + DONE)), (200, 502), "estimated"),
)
