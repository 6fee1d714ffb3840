"""Decides whether a request was signed by who has its key's signing secret, and lately. Pure.

The signature is HMAC-SHA256 over ``v1:{timestamp}:{METHOD}:{path and query as sent}:{hex SHA-256 of the body}``; its key are the
UTF-8 bytes of the secret as it was printed. What the head says is judged before the body is read, the rest behind it.
Whether a signature was used before is asked elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.times import SIGNATURE_WITHIN_MS

__all__ = [
    "Claim",
    "Unproven",
    "read_claim",
    "refuse_age",
    "refuse_forgery",
    "sha256_of",
    "signature_of",
]

_TIMESTAMP: Final = b"x-tallygate-timestamp"
_SIGNATURE: Final = b"x-tallygate-signature"
_SECONDS: Final = re.compile(rb"[1-9][0-9]{0,11}")
_VERSION_1: Final = re.compile(rb"v1=([0-9a-f]{64})")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*(.*)", re.DOTALL)
_WITHIN_S: Final = SIGNATURE_WITHIN_MS // 1_000
_MISSING: Final = Refusal(
    ErrorCode.SIGNATURE_MISSING,
    "The key's requests are signed: send X-Tallygate-Timestamp and X-Tallygate-Signature.",
)
_FORGED: Final = Refusal(
    ErrorCode.SIGNATURE_INVALID,
    "The signature is not that of this method, path, query and body under the key's signing secret.",
)


class Claim(msgspec.Struct, frozen=True):
    """What a request's head says of its signature; the body decides whether it is true."""

    timestamp: bytes
    signature: str
    method: bytes
    target: bytes
    """Path and query as sent."""

    @property
    def signed_at_s(self) -> int:
        """Unix seconds."""
        return int(self.timestamp)


class Unproven(msgspec.Struct, frozen=True):
    """A caller whose request is yet to be proved its own."""

    caller: Caller
    claim: Claim
    secrets: tuple[str, ...]
    """Any of them may have signed."""


def read_claim(head: Mapping[str, Any], now_ms: int) -> Claim | Refusal:
    """The claim in a request's head; 401 when it is absent, malformed, or not of these minutes."""
    timestamps, signatures = (_values(head["headers"], each) for each in (_TIMESTAMP, _SIGNATURE))
    if not timestamps or not signatures:
        return _MISSING
    if len(timestamps) > 1 or len(signatures) > 1:
        return _malformed("Send each header of the signature once.")
    (timestamp,), (signature,) = timestamps, signatures
    if not _SECONDS.fullmatch(timestamp):
        return _malformed(
            "X-Tallygate-Timestamp is Unix time in whole seconds, such as 1700000000."
        )
    digest = _VERSION_1.fullmatch(signature)
    if digest is None:
        what = "X-Tallygate-Signature is v1= and 64 hexadecimal digits in lower case."
        return _malformed(what)
    method = head["method"].encode()
    claim = Claim(timestamp, digest[1].decode(), method, _target(head))
    return refuse_age(claim, now_ms) or claim


def refuse_age(claim: Claim, now_ms: int) -> Refusal | None:
    """Why the claim is not of these minutes."""
    apart_s = claim.signed_at_s - now_ms // 1_000
    if abs(apart_s) <= _WITHIN_S:
        return None
    when = "ahead of" if apart_s > 0 else "behind"
    what = f"The timestamp is {abs(apart_s)} s {when} the gateway's clock, {_WITHIN_S} s may be."
    return Refusal(ErrorCode.SIGNATURE_EXPIRED, what)


def sha256_of(body: bytes) -> str:
    """The digest of a body, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def refuse_forgery(unproven: Unproven, body_sha256: str) -> Refusal | None:
    """Why the claim is not true of the body with this digest."""
    claim = unproven.claim
    matches = [
        hmac.compare_digest(signature_of(secret, claim, body_sha256), claim.signature)
        for secret in unproven.secrets
    ]
    return None if any(matches) else _FORGED


def signature_of(secret: str, claim: Claim, body_sha256: str) -> str:
    """The signature that a secret gives a request, in hexadecimal; that of the claim is not looked at."""
    parts = (b"v1", claim.timestamp, claim.method, claim.target, body_sha256.encode())
    return hmac.digest(secret.encode(), b":".join(parts), "sha256").hex()


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _target(head: Mapping[str, Any]) -> bytes:
    """Path and query as they stand in the request line, scheme and host of an absolute form left out (RFC 9112,
    section 3.2.2). A server that does not tell the line says path and query apart."""
    line: bytes | None = head.get("target")
    if line is None:
        path, query = bytes(head["raw_path"]), bytes(head["query_string"])
        return path + b"?" + query if query else path
    absolute = _ABSOLUTE.fullmatch(line)
    return line if absolute is None else absolute[1]


def _malformed(message: str) -> Refusal:
    return Refusal(ErrorCode.SIGNATURE_INVALID, message)
