"""Decides what a request's headers mean: media type, deadline, trace."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode

_DECIMAL: Final = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")
_DIGITS_MAX: Final = 15
"""More bytes than anybody sends, and few enough to be read in no time."""
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def refuse_media(headers: Mapping[bytes, bytes]) -> Refusal | None:
    """415 unless the body is announced as plain, uncompressed JSON."""
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        return Refusal(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json."
        )
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding.")
    return None


def announced_bytes(headers: Mapping[bytes, bytes]) -> int | None:
    """The size of the body as it is announced; ``None`` when it is not, or is no such number."""
    digits = headers.get(b"content-length", b"")
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else None


def deadline_ms_of(headers: Mapping[bytes, bytes], default_s: float, max_s: float) -> int | Refusal:
    """Milliseconds the client gives the request: ``X-Request-Timeout`` in seconds, capped."""
    asked = headers.get(b"x-request-timeout")
    if asked is None:
        return math.ceil(default_s * 1000)
    if not _DECIMAL.fullmatch(asked.strip()) or (asked_s := float(asked)) <= 0:
        return Refusal(
            ErrorCode.INVALID_REQUEST,
            "X-Request-Timeout must be a positive number of seconds.",
            param="X-Request-Timeout",
        )
    return math.ceil(min(asked_s, max_s) * 1000)


def traceparent_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The W3C trace context to carry on; ``None`` when absent or malformed."""
    value = headers.get(b"traceparent", b"")
    return value if _TRACEPARENT.fullmatch(value) else None
