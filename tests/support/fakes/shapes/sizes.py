"""Answers that are larger than any completion, in each of their parts."""

from __future__ import annotations

from dataclasses import replace

from tests.support.fakes.shapes.wire import (
    CHUNKED,
    STREAM,
    USAGE,
    Shape,
    Wire,
    chunk,
    completion,
    event,
    floods,
    good_stream,
    head,
    message_of,
    says,
    sized,
)

_MIB = 1024 * 1024
_STREAM = head(b"200 OK", STREAM)
_WORDS = b"abcdefgh " * 116_500


def _flood(name: str, first: bytes, piece: bytes, total_bytes: int = 100 * _MIB) -> Shape:
    return Shape(
        name, "size", floods(first, piece, total_bytes), (0, 502), "estimated", stream=True
    )


async def _tiny_chunks(wire: Wire) -> None:
    """A good answer, one byte to a chunk."""
    body = completion(content=b'"' + b"x" * 50_000 + b'"')
    await wire.send(
        head(b"200 OK", CHUNKED) + b"".join(chunk(body[i : i + 1]) for i in range(len(body)))
    )
    await wire.send(b"0\r\n\r\n")


_SHAPES = (
    Shape(
        "body-17mb",
        "size",
        says(sized(completion(content=b'"' + _WORDS * 17 + b'"'))),
        (502,),
        "estimated",
    ),
    Shape("body-endless", "size", floods(head(), b"[" * _MIB, 100 * _MIB), (502,), "estimated"),
    Shape(
        "id-9mb",
        "size",
        says(sized(completion(ident=b'"' + b"i" * 9 * _MIB + b'"'))),
        (200,),
        "exact",
    ),
    Shape(
        "stream-id-9mb",
        "size",
        says(good_stream(event(ident=b'"' + b"i" * 9 * _MIB + b'"'))),
        (0, 502),
        "estimated",
        stream=True,
    ),
    Shape(
        "message-9mb",
        "size",
        says(sized(message_of(b"m" * 9 * _MIB), b"400 Bad")),
        (400,),
        "nothing",
    ),
    Shape(
        "error-endless",
        "size",
        floods(head(b"500 Down"), b"e" * _MIB, 100 * _MIB),
        (502,),
        "nothing",
    ),
    Shape(
        "objects",
        "size",
        says(sized(b'{"choices":[' + b"{}," * 5_000_000 + b"{}]}")),
        (200, 502),
        "estimated",
    ),
    Shape(
        "usage-bomb",
        "size",
        says(sized(completion(usage=b"[" + b"[]," * 4_000_000 + b"[]]"))),
        (200,),
        "estimated",
    ),
    Shape(
        "error-bomb",
        "size",
        says(sized(b'{"error":[' + b"[]," * 5_000_000 + b"[]]}")),
        (502,),
        "estimated",
    ),
    Shape(
        "escapes",
        "size",
        says(sized(completion(content=b'"' + b"\\u00e9" * 2_000_000 + b'"'))),
        (200,),
        "exact",
    ),
    Shape("tiny-chunks", "size", _tiny_chunks, (200,), "exact"),
    _flood("event-64mb", _STREAM + b"data: ", b"x" * _MIB),
    _flood("blank-lines", _STREAM, b"\n" * _MIB),
    _flood("comments", _STREAM, b":\n\n" * 100_000),
    _flood("pings", _STREAM, b": ping\n\n" * 100_000),
    _flood("empty-data", _STREAM, b"data:\n\n" * 100_000),
    _flood("empty-events", _STREAM, b'data: {"choices":[]}\n\n' * 50_000),
    _flood("stream-70mb", _STREAM, event(b'"' + b"w" * 100_000 + b'"') * 10),
    replace(
        _flood(
            "chunk-extension-flood", head(b"200 OK", CHUNKED) + b"5;x=", b"y" * _MIB, 200 * _MIB
        ),
        # Nothing of it is an answer, so on a slow machine the silence ends it before the size does.
        statuses=(0, 502, 504),
    ),
    Shape(
        "event-objects",
        "size",
        says(
            _STREAM
            + b'data: {"usage":'
            + USAGE
            + b',"choices":['
            + b"{}," * 1_000_000
            + b"{}]}\n\n"
        ),
        (0, 502),
        "estimated",
        stream=True,
    ),
)

_SLACK_S = 0.5
"""Megabytes lie in buffers between what is sent and what is read."""

SHAPES = tuple(replace(shape, slack_s=_SLACK_S) for shape in _SHAPES)
