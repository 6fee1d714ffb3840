"""Decides which request heads are refused, and how a refusal is written before any route is known.

The parser refuses what is malformed: bare line ends, folded or unnamed headers, two lengths, a length
beside chunks. This adds what it lets through: size, number, `Host`, codings that nobody undoes,
versions. Sources: RFC 9112 sections 2.2, 3.2, 6.1; RFC 9110 section 7.8. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from ingress.http.anthropic_headers import anthropic_headers
from ingress.http.paths import surface_of
from ingress.http.refusals import Headers, Refusal, refusal_body, told_headers
from schemas.errors import ErrorCode

HEAD_BYTES_MAX: Final = 16 * 1024
"""Request line and all headers, or the trailers of a body."""
HEADERS_MAX: Final = 128
FRAMING_PER_BODY_BYTE_MAX: Final = 16
"""Chunk sizes, their extensions and trailers, beside `HEAD_BYTES_MAX` that are always allowed."""

_VERSIONS: Final = frozenset({"1.0", "1.1"})
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]{0,255}")

HEAD_TOO_LARGE: Final = Refusal(
    ErrorCode.HEADERS_TOO_LARGE,
    f"The request line and headers may have {HEAD_BYTES_MAX} bytes and {HEADERS_MAX} headers.",
)
HEAD_TOO_SLOW: Final = Refusal(ErrorCode.HEADERS_TOO_SLOW, "The headers did not arrive in time.")
MALFORMED: Final = Refusal(ErrorCode.INVALID_REQUEST, "This is not well-formed HTTP/1.1.")
FULL: Final = Refusal(ErrorCode.OVERLOADED, "All connections are taken.")


def refuse_head(version: str, target_bytes: int, headers: Headers) -> Refusal | None:
    """Why a complete head is refused; ``None`` when it may pass. Names are in lower case."""
    size, hosts = target_bytes, 0
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                return _malformed("Host is not a host.")
        elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version != "1.1"):
            return _malformed("The only transfer coding is chunked, in HTTP/1.1.")
    if size > HEAD_BYTES_MAX or len(headers) > HEADERS_MAX:
        return HEAD_TOO_LARGE
    if version not in _VERSIONS:
        return _malformed("This server speaks HTTP/1.1.")
    if hosts > 1 or (not hosts and version == "1.1"):
        return _malformed("Send exactly one Host.")
    return None


def is_too_much_framing(framing_bytes: int, body_bytes: int) -> bool:
    """Whether a chunked body is mostly not body."""
    return framing_bytes > HEAD_BYTES_MAX + FRAMING_PER_BODY_BYTE_MAX * body_bytes


def refusal_answer(
    refusal: Refusal, target: bytes, request_id: str, more: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The whole answer, status line included, that closes a connection."""
    surface = surface_of(target.decode("latin-1"))
    content_type, body = refusal_body(refusal, surface, request_id)
    headers = [
        *more,
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        (b"x-request-id", request_id.encode()),
        *told_headers(refusal),
    ]
    if surface == "anthropic":
        headers += anthropic_headers([], request_id, 0)
    phrase = HTTPStatus(refusal.status).phrase.encode()
    lines = [b"HTTP/1.1 %d %s" % (refusal.status, phrase)]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", body])


def _malformed(message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, message)
