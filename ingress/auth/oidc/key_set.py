"""Key sets of identity providers: which public keys may have signed a token, by key id and algorithm. Pure.

A key that cannot be used here (another kind, too short, for encryption) is left out and harms no other. Symmetric
algorithms are no choice: with one, whoever knows the public key could sign. Sources: RFC 7517, RFC 8725 section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ingress.auth.callers_file import Algorithm
from ingress.http.refusals import Refusal
from ingress.http.request import read_object

__all__ = ["KeySet", "SigningKey", "is_signed_by", "read_key_set"]

_BY_KIND: Final[dict[tuple[str, str | None], tuple[Algorithm, ...]]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_KEYS_MAX: Final = 64
_RSA_BITS_MIN: Final = 2_048
_RSA_BITS_MAX: Final = 8_192
"""Checking a signature of a longer one takes a noticeable part of a second."""
_TRIED_MAX: Final = 4
_JWS: Final = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, for one algorithm."""

    kid: str | None
    algorithm: Algorithm
    key: jwt.PyJWK


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of a provider that can be used here, and its own bytes."""

    keys: tuple[SigningKey, ...]
    body: bytes

    def candidates(self, kid: str | None, algorithm: str) -> Sequence[SigningKey]:
        """The keys that may have signed; none for an unknown id. A token that names no key is taken
        where only one is possible."""
        fitting = [key for key in self.keys if key.algorithm == algorithm]
        if kid is None:
            return fitting if len(fitting) == 1 else ()
        return [key for key in fitting if key.kid == kid][:_TRIED_MAX]

    def knows(self, kid: str | None) -> bool:
        """Whether a key of that id is in it, for whichever algorithm."""
        return kid is None or any(key.kid == kid for key in self.keys)


def is_signed_by(text: str, key: SigningKey) -> bool:
    """Whether the key signed the token in compact form."""
    try:
        _JWS.decode(text, key.key, algorithms=[key.algorithm])
    except Exception:  # noqa: BLE001  # total: whatever a token does to the library, it is not signed
        return False
    return True


def read_key_set(body: bytes, algorithms: Sequence[Algorithm]) -> KeySet | str:
    """The key set in a provider's answer, or why it is none; without a usable key it is none."""
    fields = read_object(body)
    if isinstance(fields, Refusal):
        return fields.message
    listed = fields.get("keys")
    if not isinstance(listed, list):
        return "keys is no list"
    keys = [key for each in listed[:_KEYS_MAX] for key in _keys_in(each, algorithms)]
    return KeySet(tuple(keys), body) if keys else "no key in it can be used here"


def _keys_in(fields: Any, allowed: Sequence[Algorithm]) -> list[SigningKey]:
    if not isinstance(fields, dict) or fields.get("use", "sig") != "sig" or "d" in fields:
        return []
    operations = fields.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return []
    kind, curve, kid = fields.get("kty"), fields.get("crv"), fields.get("kid")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return []
    if not isinstance(kid, str | None):
        return []
    own = fields.get("alg")
    possible = _BY_KIND.get((kind, curve), ())
    wanted = [name for name in possible if name in allowed and own in {None, name}]
    made = [(name, _made(fields, name)) for name in wanted]
    return [SigningKey(kid, name, key) for name, key in made if key is not None]


def _made(fields: dict[str, Any], algorithm: Algorithm) -> jwt.PyJWK | None:
    try:
        key = jwt.PyJWK(fields, algorithm)
    except Exception:  # noqa: BLE001  # total: a key of a stranger, read by libraries of others
        return None
    public = key.key
    if isinstance(public, RSAPublicKey) and not _RSA_BITS_MIN <= public.key_size <= _RSA_BITS_MAX:
        return None
    return key
