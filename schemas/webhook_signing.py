"""Signatures of webhooks, and the secrets they are made with: derived, so that nobody keeps them. Pure.

A secret is the HMAC-SHA256 of a pepper over its organization and generation. Signed is ``id.timestamp.body`` over raw bytes.
Source: Standard Webhooks 1.0.0, signature scheme ``v1``.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from schemas.peppers import Peppers

__all__ = ["SECRET_PREFIX", "secrets_of", "signed_headers", "webhook_secret"]

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # how secrets begin


def webhook_secret(pepper: bytes, org: str, generation: int) -> str:
    """A secret as its receiver is given it."""
    return SECRET_PREFIX + base64.b64encode(_key(pepper, org, generation)).decode()


def secrets_of(peppers: Peppers, org: str, generations: Sequence[int]) -> Sequence[bytes]:
    """All keys that sign for an organization: of each living pepper, of each generation in force."""
    return [_key(pepper, org, each) for pepper in peppers.live for each in generations]


def signed_headers(
    secrets: Sequence[bytes], webhook_id: str, at_s: int, body: bytes
) -> Mapping[str, str]:
    """The headers that prove a delivery: its id, when it is sent in Unix seconds, and a signature of each secret."""
    signed = f"{webhook_id}.{at_s}.".encode() + body
    digests = (hmac.digest(secret, signed, "sha256") for secret in secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in digests),
    }


def _key(pepper: bytes, org: str, generation: int) -> bytes:
    return hmac.digest(pepper, f"webhook:{org}:{generation}".encode(), "sha256")
