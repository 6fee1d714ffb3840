"""Decides what an idempotency key is, what it is unique in, and which bodies are the same. Pure.

A key belongs to one organization and one route, and to one user where that is known. Only its hash is kept. Source: the draft
Idempotency-Key HTTP header, whose quoted form and the bare one of common habit are the same key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Hash of a key in its scope, and fingerprint of the body that came with it; both hex."""

    key_hash: str
    fingerprint: str


def idempotency_key(
    key: str, org: str, route: str, fields: Mapping[str, Any], owner: str | None = None
) -> IdempotencyKey:
    """The key within its organization and route, with the fingerprint of the body ``fields``. That of an ``owner`` is
    its own: no other user of the organization joins or meets it."""
    # An organization has a name, so that no scope of programs begins as one of an owner does.
    whose = org if owner is None else f"\0{owner}\0{org}"
    scope = f"{whose}\0{route}\0{key}".encode()
    body = route.encode() + b"\0" + msgspec.json.encode(fields, order="sorted")
    return IdempotencyKey(hashlib.sha256(scope).hexdigest(), hashlib.sha256(body).hexdigest())
