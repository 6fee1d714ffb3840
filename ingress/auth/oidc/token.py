"""Reads signed tokens: their three parts, and what their header says, before anything of them is believed. Pure.

Nothing that a header points to is followed (``jku``, ``x5u``, ``jwk``, ``x5c``), and what it calls critical is
refused, because nothing of that kind is understood here. Sources: RFC 7515, RFC 7519, RFC 8725, RFC 9068.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

import msgspec

from ingress.http.refusals import Refusal
from ingress.http.request import read_object

__all__ = ["TOKEN_CHARS_MAX", "Token", "is_token", "read_token"]

TOKEN_CHARS_MAX: Final = 8 * 1024
_KID_CHARS_MAX: Final = 256
_SHAPE: Final = re.compile(r"e[w-z0-9_-][A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
"""What begins with ``{`` begins so in base64url. A signature may be missing: that is to be refused as a token."""
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_ACCESS: Final = frozenset({"at+jwt", "application/at+jwt"})


class Token(msgspec.Struct, frozen=True):
    """A token whose signature was not checked yet."""

    alg: str
    kid: str | None
    is_access: bool
    """Whether its type says that it is an access token (RFC 9068); others do not say what they are."""
    claims: dict[str, Any]


def is_token(credential: str) -> bool:
    """Whether it has the shape of a signed token; says nothing about whether it is one."""
    return len(credential) > TOKEN_CHARS_MAX or _SHAPE.fullmatch(credential) is not None


def read_token(text: str) -> Token | str:
    """The token in compact form, or why it is none."""
    if len(text) > TOKEN_CHARS_MAX:
        return f"it has more than {TOKEN_CHARS_MAX} characters"
    header_part, claims_part, _ = text.split(".")
    header, claims = _object(header_part), _object(claims_part)
    if header is None or claims is None:
        return "it cannot be read"
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(alg, str) or not isinstance(typ, str):
        return "its header cannot be read"
    if kid is not None and not (isinstance(kid, str) and len(kid) <= _KID_CHARS_MAX):
        return "its key id cannot be read"
    if "crit" in header or "b64" in header:
        return "its header demands what is not understood here"
    if typ.lower() not in _TYPES:
        return "its type is not that of an access token"
    return Token(alg, kid, typ.lower() in _ACCESS, claims)


def _object(part: str) -> dict[str, Any] | None:
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return None
    value = read_object(text)
    return None if isinstance(value, Refusal) else value
