"""Request ids (UUIDv7) and API keys: how they are made and how they are recognised. Pure.

Randomness, time and the pepper are arguments. Sources: RFC 9562 section 5.7 (UUIDv7); GitHub's token
layout (prefix, base62, CRC-32), which lets a typo be refused without a look-up.
"""

from __future__ import annotations

import hmac
import re
import uuid
import zlib
from typing import Final

__all__ = [
    "KEY_PREFIX",
    "KEY_RANDOM_BYTES",
    "SIGNING_PREFIX",
    "UUID7_RANDOM_BYTES",
    "api_key",
    "api_key_hash",
    "is_api_key",
    "signing_secret",
    "uuid7",
    "uuid7_time_ms",
]

UUID7_RANDOM_BYTES: Final = 10
KEY_RANDOM_BYTES: Final = 32

_UUID7: Final = re.compile("([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""As ``uuid7`` writes it, which is read five times faster than in any other form."""
KEY_PREFIX: Final = "tg_live_"
SIGNING_PREFIX: Final = "tg_sign_"
_BODY_CHARS: Final = 30
_CHECK_CHARS: Final = 6
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUES: Final = {digit: value for value, digit in enumerate(_BASE62)}
_GRAMMAR: Final = re.compile(rf"{KEY_PREFIX}[0-9A-Za-z]{{{_BODY_CHARS + _CHECK_CHARS}}}")


def uuid7(now_ms: int, random_bytes: bytes) -> str:
    """A UUIDv7 of Unix milliseconds ``now_ms`` and ten random bytes."""
    bits = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(random_bytes[:UUID7_RANDOM_BYTES])
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7_time_ms(request_id: str) -> int:
    """The Unix milliseconds inside a UUIDv7; ``ValueError`` when it is not one."""
    canonical = _UUID7.fullmatch(request_id)
    if canonical is not None:
        return int(canonical[1] + canonical[2], 16)
    parsed = uuid.UUID(request_id)
    if parsed.version != 7:  # noqa: PLR2004  # UUIDv7
        raise ValueError(f"{request_id} is not a UUIDv7")
    return parsed.int >> 80


def made_at_ms(request_id: str) -> int:
    """When the request was made, in Unix milliseconds; 0 for an id that does not say it."""
    try:
        return uuid7_time_ms(request_id)
    except ValueError:
        return 0


def _base62(number: int, chars: int) -> str:
    digits = []
    for _ in range(chars):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def api_key(random_bytes: bytes) -> str:
    """A new API key: ``tg_live_``, 30 base62 characters, 6 of CRC-32."""
    body = _base62(int.from_bytes(random_bytes[:KEY_RANDOM_BYTES]), _BODY_CHARS)
    return f"{KEY_PREFIX}{body}{_checksum(body)}"


def is_api_key(candidate: str) -> bool:
    """Whether it has a key's form and checksum; says nothing about whether the key exists."""
    if not _GRAMMAR.fullmatch(candidate):
        return False
    told, body = 0, candidate[len(KEY_PREFIX) : -_CHECK_CHARS]
    for digit in candidate[-_CHECK_CHARS:]:
        told = told * len(_BASE62) + _VALUES[digit]
    return told == zlib.crc32(body.encode())


def signing_secret(pepper: bytes, key_id: str, generation: int) -> str:
    """What requests of a signed key are signed with: derived from its id and generation, and so kept nowhere."""
    digest = hmac.digest(pepper, f"{key_id}:{generation}".encode(), "sha256")
    return f"{SIGNING_PREFIX}{digest.hex()}"


def api_key_hash(pepper: bytes, key: str) -> str:
    """What is stored of a key: hex HMAC-SHA256 under the pepper."""
    return hmac.digest(pepper, key.encode(), "sha256").hex()
