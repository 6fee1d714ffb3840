"""Decides what an idempotency key is, what it is unique in, and which bodies are the same. Pure.

A key belongs to one organization and one route. Only its hash is kept. Source: the draft
Idempotency-Key HTTP header, whose quoted form and the bare one of common habit are the same key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode

_BARE: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_QUOTED: Final = re.compile(rb'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED: Final = re.compile(rb'\\(["\\])')


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Hash of a key in its scope, and fingerprint of the body that came with it; both hex."""

    key_hash: str
    fingerprint: str


def header_key(headers: Mapping[bytes, bytes]) -> str | Refusal | None:
    """The key in ``Idempotency-Key``; ``None`` without one."""
    sent = headers.get(b"idempotency-key")
    if sent is None:
        return None
    key = sent.strip()
    quoted = _QUOTED.fullmatch(key)
    if quoted is not None:
        key = _ESCAPED.sub(rb"\1", quoted[1])
    if not _BARE.fullmatch(key):
        return Refusal(
            ErrorCode.INVALID_REQUEST,
            "Idempotency-Key must be 1 to 255 visible ASCII characters.",
            param="Idempotency-Key",
        )
    return key.decode("ascii")


def idempotency_key(key: str, org: str, route: str, fields: Mapping[str, Any]) -> IdempotencyKey:
    """The key within its organization and route, with the fingerprint of the body ``fields``."""
    scope = f"{org}\0{route}\0{key}".encode()
    body = route.encode() + b"\0" + msgspec.json.encode(fields, order="sorted")
    return IdempotencyKey(hashlib.sha256(scope).hexdigest(), hashlib.sha256(body).hexdigest())
