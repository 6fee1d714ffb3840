"""Signed tokens made by hand, so that they can be wrong in every way: no library of the gateway has a part in it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER = "https://login.example.com"
AUDIENCE = "tallygate"
NOW_S = 1_700_000_000


def b64(content: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8))


def unsigned(header: dict[str, Any], claims: dict[str, Any] | bytes) -> str:
    """What is to be signed."""
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"{b64(json.dumps(header).encode())}.{b64(body)}"


def claims(**more: Any) -> dict[str, Any]:
    """Those of a good access token of Ada; ``None`` leaves one out."""
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": NOW_S + 300,
        "iat": NOW_S,
        "org": "acme",
    }
    return {name: value for name, value in (made | more).items() if value is not None}


class RsaSigner:
    """Signs as RS256."""

    alg = "RS256"

    def __init__(self, kid: str | None = "rsa-1", bits: int = 2_048) -> None:
        self.kid = kid
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=bits)

    def jwk(self, **more: Any) -> dict[str, Any]:
        """The public half."""
        numbers = self._key.public_key().public_numbers()
        made = {"kty": "RSA", "use": "sig", "kid": self.kid}
        return made | {"n": _number(numbers.n), "e": _number(numbers.e)} | more

    def private_jwk(self, **more: Any) -> dict[str, Any]:
        """Both halves, as nobody should publish them."""
        numbers = self._key.private_numbers()
        return self.jwk(d=_number(numbers.d)) | more

    def pem(self) -> bytes:
        """The public half as people copy it."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(self, said: dict[str, Any] | bytes | None = None, **header: Any) -> str:
        """A token; what of the header is ``None`` is left out."""
        made = {"alg": self.alg, "kid": self.kid, "typ": "at+jwt"} | header
        head = {name: value for name, value in made.items() if value is not None}
        text = unsigned(head, claims() if said is None else said)
        return f"{text}.{b64(self._signature(text.encode()))}"

    def _signature(self, text: bytes) -> bytes:
        return self._key.sign(text, padding.PKCS1v15(), hashes.SHA256())


class EcSigner(RsaSigner):
    """Signs as ES256."""

    alg = "ES256"

    def __init__(self, kid: str | None = "ec-1") -> None:
        self.kid = kid
        self._ec = ec.generate_private_key(ec.SECP256R1())

    def jwk(self, **more: Any) -> dict[str, Any]:
        """The public half."""
        numbers = self._ec.public_key().public_numbers()
        place = {"x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}
        return {"kty": "EC", "crv": "P-256", "kid": self.kid} | place | more

    def _signature(self, text: bytes) -> bytes:
        r, s = decode_dss_signature(self._ec.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)


class EdSigner(RsaSigner):
    """Signs as EdDSA."""

    alg = "EdDSA"

    def __init__(self, kid: str | None = "ed-1") -> None:
        self.kid = kid
        self._ed = ed25519.Ed25519PrivateKey.generate()

    def jwk(self, **more: Any) -> dict[str, Any]:
        """The public half."""
        public = self._ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": b64(public)} | more

    def _signature(self, text: bytes) -> bytes:
        return self._ed.sign(text)


def pem_of(jwk: dict[str, Any]) -> bytes:
    """A published RSA key as people copy it."""
    e, n = (int.from_bytes(base64.urlsafe_b64decode(jwk[part] + "===")) for part in ("e", "n"))
    public = rsa.RSAPublicNumbers(e, n).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def by_shared_secret(secret: bytes, said: dict[str, Any] | None = None, **header: Any) -> str:
    """A token under HS256, whose secret here is what everybody knows."""
    text = unsigned({"alg": "HS256", "typ": "JWT"} | header, said or claims())
    return f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def without_signature(said: dict[str, Any] | None = None, alg: str = "none") -> str:
    """A token that nobody signed."""
    return f"{unsigned({'alg': alg, 'typ': 'JWT'}, said or claims())}."


def key_set(*keys: dict[str, Any]) -> bytes:
    """A key set as a provider answers it."""
    return json.dumps({"keys": list(keys)}).encode()
