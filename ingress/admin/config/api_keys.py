"""API keys as values: made, changed, revoked, rotated. Secrets pass through and are not kept."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from ingress.admin.config.change import Edit
from ingress.admin.config.entities import not_found
from ingress.admin.http.refusal import Refusal
from schemas.config_references import Problem
from schemas.entities import Entity, EntityId, Key, Limits, ModelNames, Name, TimeMs
from schemas.errors import ErrorCode
from schemas.ids import KEY_RANDOM_BYTES, api_key, api_key_hash

KEY_ID_RANDOM_BYTES: Final = 16

_BASE62: Final = string.digits + string.ascii_letters
_KEY_ID_CHARS: Final = 12


class KeyFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PUT /keys/{id}``: what of a key may change. Its organization and secret may not."""

    name: Name | None = None
    project: EntityId | None = None
    user: EntityId | None = None
    limits: Limits = Limits()
    models: ModelNames | None = None
    expires_at_ms: TimeMs | None = None


class NewKey(KeyFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /keys``: the same, and whose it is."""

    org: EntityId


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /keys/{id}/rotate``: how long the old secret still works, in seconds."""

    grace_s: Annotated[float, msgspec.Meta(ge=0, le=30 * 86_400)] = 0


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key: its id, its secret (shown once) and what is stored."""

    key_id: str
    secret: str
    entity: Key


def mint(wanted: NewKey, pepper: bytes, randomness: bytes, now_ms: int) -> Minted:
    """A key from ``KEY_RANDOM_BYTES + KEY_ID_RANDOM_BYTES`` random bytes."""
    secret = api_key(randomness[:KEY_RANDOM_BYTES])
    entity = Key(
        hash=api_key_hash(pepper, secret),
        display=f"{secret[:12]}…{secret[-4:]}",
        created_at_ms=now_ms,
        **{name: getattr(wanted, name) for name in NewKey.__struct_fields__},
    )
    return Minted(_key_id(randomness[KEY_RANDOM_BYTES:]), secret, entity)


def successor(key: Key) -> NewKey:
    """What the key that replaces this one is made from."""
    return NewKey(**{name: getattr(key, name) for name in NewKey.__struct_fields__})


def creation(key: Key) -> Edit:
    """The edit that adds a key under an id that is free."""

    def create(current: Entity | Problem | None) -> Entity | Refusal:
        if current is not None:
            return Refusal(ErrorCode.VERSION_CONFLICT, "the new key's id is taken; try again")
        return key

    return create


def fields_change(key_id: str, fields: KeyFields) -> Edit:
    """The edit that gives an existing key these fields."""
    changed = {name: getattr(fields, name) for name in KeyFields.__struct_fields__}
    return _on_key(key_id, lambda key: msgspec.structs.replace(key, **changed))


def revocation(key_id: str, now_ms: int) -> Edit:
    """The edit that ends a key; an earlier revocation stands."""
    return _on_key(
        key_id, lambda key: msgspec.structs.replace(key, revoked_at_ms=key.revoked_at_ms or now_ms)
    )


def retirement(key_id: str, expires_at_ms: int) -> Edit:
    """The edit that lets a key expire, never later than it would anyway."""

    def retire(key: Key) -> Key:
        earliest_ms = min(expires_at_ms, key.expires_at_ms or expires_at_ms)
        return msgspec.structs.replace(key, expires_at_ms=earliest_ms)

    return _on_key(key_id, retire)


def _on_key(key_id: str, change: Callable[[Key], Key]) -> Edit:
    def edit(current: Entity | Problem | None) -> Entity | Refusal | None:
        return change(current) if isinstance(current, Key) else not_found("key", key_id)

    return edit


def _key_id(random_bytes: bytes) -> str:
    number = int.from_bytes(random_bytes)
    chars = []
    for _ in range(_KEY_ID_CHARS):
        number, digit = divmod(number, len(_BASE62))
        chars.append(_BASE62[digit])
    return "key_" + "".join(chars)
