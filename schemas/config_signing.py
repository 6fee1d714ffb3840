"""Who wrote a record of the configuration log, and that nobody changed it: Ed25519 signatures. Pure.

Signed are the bytes of the record, key and value; the signature travels in a header, ``signature: <signer>:<base64>``. Whoever reads has
public keys only, so a reader cannot write. The control plane may write everything; accounting the epochs of the ledger's shards
and nothing else. Source: RFC 8032.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, get_args

from schemas.config_state import LEDGER_SHARD
from schemas.outgoing import Outgoing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SignerName = Literal["admin", "accounting"]
HEADER: Final = "signature"
KEY_BYTES: Final = 32
_CONTEXT: Final = b"tallygate config v1\0"
_MAY_WRITE: Final[Mapping[str, bytes]] = {"admin": b"", "accounting": f"{LEDGER_SHARD}/".encode()}
"""How the keys of the records begin that a signer may write."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Whoever writes records, with the private key."""

    name: SignerName
    key: Ed25519PrivateKey

    @property
    def public(self) -> str:
        """The public key, in hex."""
        return self.key.public_key().public_bytes_raw().hex()

    def signed(self, record: Outgoing) -> Outgoing:
        """The record with its signature."""
        made = self.key.sign(_text(record.key, record.value))
        said = f"{self.name}:{base64.b64encode(made).decode()}".encode()
        return replace(record, headers=[*record.headers, (HEADER, said)])


@dataclass(frozen=True, slots=True)
class Forgery:
    """A record of the configuration log that nobody who may write has signed."""

    offset: int
    at_ms: int
    entity: str
    """What its key names."""
    why: str


def signed(record: Outgoing, signer: Signer | None) -> Outgoing:
    """The record with a signature, where there is somebody to sign it."""
    return record if signer is None else signer.signed(record)


@dataclass(frozen=True, slots=True)
class Verifier:
    """The public keys of those who may write."""

    keys: Mapping[str, tuple[Ed25519PublicKey, ...]]
    listed: frozenset[tuple[str, str]]
    """Names and keys, as they were told."""

    def fault(
        self, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
    ) -> str | None:
        """Why a record is not to be believed; ``None`` for one that a signer wrote who may."""
        said = [text for name, text in headers if name == HEADER]
        if len(said) != 1:
            return "it is not signed" if not said else "it has several signatures"
        name, _, encoded = said[0].decode(errors="replace").partition(":")
        if name not in self.keys:
            return "nobody who may write signed it"
        if not (key or b"").startswith(_MAY_WRITE[name]):
            return f"{name} may not write it"
        try:
            signature = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            signature = b""
        # Bits that no byte is made of could be changed, and there is one form of each signature.
        if not signature or base64.b64encode(signature).decode() != encoded:
            return "its signature is none"
        text = _text(key, value)
        if any(_is_of(each, signature, text) for each in self.keys[name]):
            return None
        return f"its signature is not that of {name}"


def _is_of(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only where keys are told

    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _text(key: bytes | None, value: bytes | None) -> bytes:
    """What is signed: the length of the key keeps key and value apart; no value is not an empty one."""
    name = key or b""
    return b"".join(
        (_CONTEXT, len(name).to_bytes(4, "big"), name, b"-" if value is None else b"+" + value)
    )


def read_signer(name: SignerName, secret: str) -> Signer:
    """The signer with a private key of 32 bytes in hex. Raises ``ValueError``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - only where keys are told
        Ed25519PrivateKey,
    )

    return Signer(name, Ed25519PrivateKey.from_private_bytes(_bytes_of(secret)))


def read_verifier(listed: str) -> Verifier | None:
    """The verifier of ``admin=HEX,accounting=HEX``; a name may stand there more than once, while keys are changed.

    ``None`` of an empty text: then everybody is believed. Raises ``ValueError``.
    """
    if not listed.strip():
        return None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - only where keys are told
        Ed25519PublicKey,
    )

    keys: dict[str, tuple[Ed25519PublicKey, ...]] = {}
    told = set()
    for each in listed.split(","):
        name, _, text = each.strip().partition("=")
        if name not in get_args(SignerName):
            raise ValueError(f"signers are {', '.join(get_args(SignerName))}: write admin=HEX")
        key = Ed25519PublicKey.from_public_bytes(_bytes_of(text))
        keys[name] = (*keys.get(name, ()), key)
        told.add((name, text.strip().lower()))
    if "admin" not in keys:
        raise ValueError("without a key of admin nobody could write the configuration")
    return Verifier(keys, frozenset(told))


def _bytes_of(text: str) -> bytes:
    try:
        found = bytes.fromhex(text.strip())
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        raise ValueError(f"a key is {KEY_BYTES} bytes in hex")
    return found
