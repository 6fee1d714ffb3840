"""Answers whose status line or headers are none, too many, too long, or lies."""

from __future__ import annotations

import gzip
import time
from email.utils import formatdate

from tests.support.fakes.shapes.wire import (
    Shape,
    Wire,
    completion,
    floods,
    head,
    message_of,
    says,
    sized,
)

_BODY = completion()
_BROKEN = (502,)
_LIMITED = (429, 503)
_SLOW = message_of(b"slow down")


def _raw(
    name: str, answer: bytes, statuses: tuple[int, ...] = _BROKEN, booked: str = "estimated"
) -> Shape:
    return Shape(name, "headers", says(answer), statuses, booked)  # type: ignore[arg-type]


def _limited(name: str, retry_after: bytes) -> Shape:
    answer = sized(_SLOW, b"429 Slow", b"Retry-After: " + retry_after)
    return _raw(name, answer, _LIMITED, "nothing")


async def _date(wire: Wire) -> None:
    at = formatdate(time.monotonic() + 4_000_000_000, usegmt=True).encode()
    await wire.send(sized(_SLOW, b"429 Slow", b"Retry-After: " + at))


SHAPES = (
    _limited("retry-superscript", "\u00b2".encode()),
    _limited("retry-arabic", "\u0663".encode()),
    _limited("retry-latin1", b"\xb2"),
    _limited("retry-negative", b"-5"),
    _limited("retry-nines", b"9" * 5_000),
    _limited("retry-fraction", b"1.5"),
    _limited("retry-exponent", b"1e400"),
    Shape("retry-date", "headers", _date, _LIMITED, "nothing"),
    _raw("thousand-headers", sized(_BODY, b"200 OK", *(b"X-%d: y" % n for n in range(1_000)))),
    _raw("long-header", sized(_BODY, b"200 OK", b"X: " + b"y" * 65_536)),
    _raw("header-nul", sized(_BODY, b"200 OK", b"X: a\x00b"), (200, 502)),
    _raw("header-latin1", sized(_BODY, b"200 OK", b"X: caf\xe9"), (200,), "exact"),
    _raw("header-no-colon", sized(_BODY, b"200 OK", b"nothing of the kind")),
    _raw("header-folded", sized(_BODY, b"200 OK", b"X: a\r\n b"), (200, 502)),
    _raw("header-space-name", sized(_BODY, b"200 OK", b"X Y: a"), (200, 502)),
    _raw("status-line-bad", b"HTPP/9.9 yes\r\n\r\n" + _BODY),
    _raw("status-line-long", b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n" + _BODY),
    _raw("status-99", sized(_BODY, b"99 Low")),
    _raw("status-999", sized(_BODY, b"999 High"), booked="nothing"),
    _raw("status-204", head(b"204 No Content"), booked="nothing"),
    _raw("status-304", head(b"304 Not Modified"), booked="nothing"),
    _raw("status-101", head(b"101 Switching Protocols", b"Upgrade: h2c"), booked="nothing"),
    _raw("status-302", head(b"302 Found", b"Location: http://127.0.0.1:1/"), booked="nothing"),
    Shape(
        "interim-flood",
        "headers",
        floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000, 50_000_000),
        _BROKEN,
        "estimated",
        slack_s=0.3,
    ),
    Shape(
        "header-flood",
        "headers",
        floods(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1_000, 50_000_000),
        _BROKEN,
        "estimated",
    ),
    _raw(
        "interim-then-answer",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + sized(_BODY),
        (200,),
        "exact",
    ),
    _raw(
        "set-cookie",
        sized(_BODY, b"200 OK", b"Set-Cookie: session=secret; Path=/"),
        (200,),
        "exact",
    ),
    _raw("gzip", sized(gzip.compress(_BODY), b"200 OK", b"Content-Encoding: gzip"), (200, 502)),
    _raw(
        "gzip-bomb",
        sized(gzip.compress(b" " * 50_000_000 + _BODY), b"200 OK", b"Content-Encoding: gzip"),
        (502,),
    ),
    _raw("gzip-lie", sized(_BODY, b"200 OK", b"Content-Encoding: gzip"), (200, 502)),
    _raw(
        "type-lie",
        sized(_BODY).replace(b"application/json", b"image/png; charset=\xff"),
        (200,),
        "exact",
    ),
)
