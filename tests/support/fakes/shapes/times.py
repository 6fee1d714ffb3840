"""Answers that come too late, too slowly, or stop. Drips are refused because nothing whole arrives."""

from __future__ import annotations

import asyncio

from tests.support.fakes.shapes.wire import (
    CHUNKED,
    DONE,
    ERROR_BODY_S,
    LAST,
    SILENCE_S,
    STREAM,
    Shape,
    Wire,
    chunk,
    completion,
    drips,
    event,
    good_stream,
    head,
    says,
    says_and_hangs,
    says_and_resets,
    sized,
)

_STREAM = head(b"200 OK", STREAM)
_LATE = (504,)


def _hang(
    name: str, *pieces: bytes, stream: bool = False, statuses: tuple[int, ...] = _LATE
) -> Shape:
    answer = says_and_hangs(*pieces)
    return Shape(name, "time", answer, statuses, "estimated", stream=stream, limit_s=SILENCE_S)


def _drip(
    name: str,
    first: bytes,
    piece: bytes,
    *,
    stream: bool = False,
    statuses: tuple[int, ...] = _LATE,
) -> Shape:
    answer = drips(first, piece)
    return Shape(name, "time", answer, statuses, "estimated", stream=stream, limit_s=SILENCE_S)


def _reset(
    name: str, *pieces: bytes, stream: bool = False, statuses: tuple[int, ...] = (502,)
) -> Shape:
    answer = says_and_resets(*pieces)
    return Shape(name, "time", answer, statuses, "estimated", stream=stream, limit_s=0.05)


async def _close_later(wire: Wire) -> None:
    await asyncio.sleep(SILENCE_S / 2)
    wire.writer.close()


async def _slow_but_moving(wire: Wire) -> None:
    """Longer than the silence limit, never silent for so long."""
    await wire.send(_STREAM, *[event(b'"w "')] * 6, LAST + DONE, pause_s=SILENCE_S / 4)


SHAPES = (
    _hang("no-first-byte"),
    _hang("no-first-event", _STREAM, stream=True),
    _hang("hang-after-head", sized(completion())[:60]),
    _hang("hang-in-body", sized(completion())[:-5]),
    _hang("hang-in-chunk", head(b"200 OK", CHUNKED) + chunk(completion())[:-9]),
    _hang("hang-in-stream", _STREAM + event(), stream=True, statuses=(0,)),
    _hang("hang-in-event", _STREAM + event() + b"data: {", stream=True, statuses=(0,)),
    _drip("drip-head", b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    _drip("drip-body", head() + b'{"id":"', b"x"),
    _drip("drip-interim", b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    _drip("drip-comments", _STREAM, b": ping\n\n", stream=True),
    _drip("drip-blank-lines", _STREAM + event(), b"\n", stream=True, statuses=(0,)),
    _drip("drip-event", _STREAM + event() + b"data: ", b"x", stream=True, statuses=(0,)),
    _drip("drip-empty-data", _STREAM, b"data:\n\n", stream=True),
    _drip("drip-chunk-extension", head(b"200 OK", CHUNKED) + b"5;", b"x"),
    Shape("close-later", "time", _close_later, (502,), "estimated", limit_s=SILENCE_S / 2),
    _reset("reset-at-once"),
    _reset("reset-after-head", sized(completion())[:60]),
    _reset("reset-in-body", sized(completion())[:-5]),
    _reset("reset-in-stream", _STREAM + event(), stream=True, statuses=(0, 502)),
    Shape(
        "error-body-hangs",
        "time",
        says_and_hangs(sized(b"x" * 100, b"500 Down")[:-50]),
        (502,),
        "nothing",
        limit_s=ERROR_BODY_S,
    ),
    Shape(
        "error-body-drips",
        "time",
        drips(head(b"400 Bad") + b'{"error":{"message":"', b"x"),
        (400,),
        "nothing",
        limit_s=ERROR_BODY_S,
    ),
    Shape(
        "slow-but-moving",
        "time",
        _slow_but_moving,
        (200,),
        "exact",
        stream=True,
        limit_s=SILENCE_S * 7 / 4,
    ),
    Shape(
        "pieces",
        "time",
        says(*[bytes([byte]) for byte in good_stream(event())], pause_s=0.001),
        (200,),
        "exact",
        stream=True,
        limit_s=0.9,
    ),
)
