"""Mutated answers of a backend, each a function of the seed and its number. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.support.fakes.shapes.wire import (
    CHUNKED,
    DONE,
    LAST,
    STREAM,
    chunk,
    completion,
    event,
    head,
    message_of,
)

End = Literal["close", "reset", "hang", "keep"]
_BODY = completion()
_EVENTS = event() + event(b'"there"') + LAST + DONE


def _kept(status: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


_GOOD: tuple[bytes, ...] = (
    _kept(b"200 OK", _BODY, b"Content-Type: application/json"),
    head(b"200 OK", CHUNKED) + chunk(_BODY[:40]) + chunk(_BODY[40:]) + b"0\r\n\r\n",
    head(b"200 OK", STREAM) + _EVENTS,
    head(b"200 OK", STREAM, CHUNKED) + chunk(_EVENTS[:90]) + chunk(_EVENTS[90:]) + b"0\r\n\r\n",
    _kept(b"429 Slow", message_of(b"slow down"), b"Retry-After: 7"),
    _kept(b"400 Bad", message_of(b"no such thing")),
    _kept(b"500 Down", b"<html>down</html>", b"Set-Cookie: a=b"),
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + _kept(b"200 OK", _BODY),
)
_TOKENS: tuple[bytes, ...] = (
    b"\r\n", b"\n\n", b"\r", b"\x00", b"\xff\xfe", b"\xe9", b"\xef\xbb\xbf", b"\\ud800", b"data:", b"data: [DONE]\n\n",
    b"[" * 3_000, b'{"a":' * 3_000, b"9" * 5_000, b"-1", b"1e999", b"NaN", b"null", b"true", b'"', b"{", b"}", b",",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: upgrade\r\n",
    b"Upgrade: h2c\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"0\r\n\r\n", b"ffffffff\r\n",
    b": ping\n\n", b'"error":{"message":"x"},', b'"usage":{"prompt_tokens":-1},', "\u00b2".encode(), b"X: " + b"y" * 9_000 + b"\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What one call gets: pieces as they are written, and how the connection ends."""

    pieces: tuple[bytes, ...]
    end: End
    stream: bool


def answer(seed: int, number: int) -> Answer:
    """The answer of this number; the same in each run with the same seed."""
    draw = random.Random(f"{seed}:{number}")
    sent = draw.choice(_GOOD)
    for _ in range(draw.choice((0, 1, 1, 2, 3, 8))):
        sent = draw.choice(_MUTATIONS)(sent, draw)
    ends: tuple[End, ...] = ("close", "keep", "reset", "hang")
    end = draw.choices(ends, (80, 14, 4, 2))[0]
    cut = draw.randrange(len(sent) + 1)
    pieces = (sent[:cut], sent[cut:]) if draw.random() < 0.3 else (sent,)
    return Answer(pieces, end, draw.random() < 0.5)


def _place(sent: bytes, draw: random.Random) -> int:
    return draw.randrange(len(sent) + 1)


def _flip(sent: bytes, draw: random.Random) -> bytes:
    at = _place(sent, draw)
    return sent[:at] + bytes([draw.randrange(256)]) + sent[at + 1 :]


def _insert(sent: bytes, draw: random.Random) -> bytes:
    at = _place(sent, draw)
    return sent[:at] + draw.choice(_TOKENS) + sent[at:]


def _insert_noise(sent: bytes, draw: random.Random) -> bytes:
    at = _place(sent, draw)
    return sent[:at] + draw.randbytes(draw.randrange(1, 40)) + sent[at:]


def _drop(sent: bytes, draw: random.Random) -> bytes:
    at = _place(sent, draw)
    return sent[:at] + sent[at + draw.randrange(1, 60) :]


def _repeat(sent: bytes, draw: random.Random) -> bytes:
    start, end = sorted((_place(sent, draw), _place(sent, draw)))
    return sent[:end] + sent[start:end] * draw.choice((1, 2, 50)) + sent[end:]


def _cut(sent: bytes, draw: random.Random) -> bytes:
    return sent[: _place(sent, draw)]


def _splice(sent: bytes, draw: random.Random) -> bytes:
    other = draw.choice(_GOOD)
    return sent[: _place(sent, draw)] + other[_place(other, draw) :]


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _flip,
    _insert,
    _insert,
    _insert_noise,
    _drop,
    _repeat,
    _cut,
    _splice,
)
