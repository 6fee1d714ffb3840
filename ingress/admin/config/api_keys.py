"""API keys as values: made, changed, revoked, rotated. Secrets pass through and are not kept."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from ingress.admin.config.change import Edit
from ingress.admin.config.entities import not_found
from ingress.admin.http.refusal import Refusal
from schemas.config_references import Problem
from schemas.entities import (
    EARLIER_SECRETS_MAX,
    DefaultTier,
    EarlierSecret,
    Entity,
    EntityId,
    Key,
    Limits,
    ModelNames,
    Name,
    Networks,
    Scopes,
    TimeMs,
    check_networks,
)
from schemas.errors import ErrorCode
from schemas.ids import KEY_RANDOM_BYTES, api_key, api_key_hash, signing_secret
from schemas.peppers import Peppers, pepper_name

KEY_ID_RANDOM_BYTES: Final = 16
GRACE_S_MAX: Final = 30 * 86_400
_NO_SIGNING: Final = Refusal(
    ErrorCode.INVALID_REQUEST,
    "signed keys need TALLYGATE_SIGNING_PEPPER, the same on the control plane and every ingress",
)

_BASE62: Final = string.digits + string.ascii_letters
_KEY_ID_CHARS: Final = 12


class KeyFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PUT /keys/{id}``: what of a key may change. Its organization and secret may not.

    Raises ``ValueError`` for a network that is none.
    """

    name: Name | None = None
    project: EntityId | None = None
    user: EntityId | None = None
    limits: Limits = Limits()
    models: ModelNames | None = None
    scopes: Scopes | None = None
    networks: Networks | None = None
    expires_at_ms: TimeMs | None = None
    service_tier: DefaultTier | None = None

    def __post_init__(self) -> None:
        """Judge the networks, as the key itself would."""
        check_networks(self.networks)


class NewKey(KeyFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /keys``: the same, whose it is, and whether its requests have to be signed, for good."""

    org: EntityId
    signed: bool = False


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /keys/{id}/rotate``: how long earlier secrets still work, in seconds."""

    grace_s: Annotated[float, msgspec.Meta(ge=0, le=GRACE_S_MAX)] = 0


@dataclass(frozen=True, slots=True)
class Secret:
    """A new secret of a key, shown once, and what is stored of it."""

    text: str = field(repr=False)
    hash: str
    display: str
    pepper: str


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key: its id, its secret and what is stored."""

    key_id: str
    secret: Secret
    entity: Key


def new_secret(pepper: bytes, randomness: bytes) -> Secret:
    """A secret from ``KEY_RANDOM_BYTES`` random bytes."""
    text = api_key(randomness[:KEY_RANDOM_BYTES])
    display = f"{text[:12]}…{text[-4:]}"
    return Secret(text, api_key_hash(pepper, text), display, pepper_name(pepper))


def signing_name(wanted: NewKey, signing: Peppers) -> str | Refusal | None:
    """The name of the pepper that a new key's signing secret is derived with; ``None`` for a key that is not signed."""
    if not wanted.signed:
        return None
    return pepper_name(signing.current) if signing.live else _NO_SIGNING


def mint(
    wanted: NewKey, pepper: bytes, signing: str | None, randomness: bytes, now_ms: int
) -> Minted:
    """A key from ``KEY_RANDOM_BYTES + KEY_ID_RANDOM_BYTES`` random bytes."""
    secret = new_secret(pepper, randomness)
    entity = Key(
        hash=secret.hash,
        display=secret.display,
        pepper=secret.pepper,
        signing=signing,
        created_at_ms=now_ms,
        org=wanted.org,
        **{name: getattr(wanted, name) for name in KeyFields.__struct_fields__},
    )
    return Minted(_key_id(randomness[KEY_RANDOM_BYTES:]), secret, entity)


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


def signing_secret_of(key_id: str, key: Key, peppers: Peppers) -> str | None:
    """What requests of the key are signed with now; ``None`` of a key that is not signed."""
    pepper = None if key.signing is None else peppers.named(key.signing)
    return None if pepper is None else signing_secret(pepper, key_id, key.generation)


def rotation(key_id: str, secret: Secret, signing: Peppers, grace_s: float, now_ms: int) -> Edit:
    """The edit that gives a key another secret. Those before it work until the grace ends, never longer than they did
    before; without a grace they end now."""
    ends_at_ms = now_ms + round(grace_s * 1_000)

    def rotate(key: Key) -> Key | Refusal:
        if key.revoked_at_ms is not None:
            return Refusal(ErrorCode.INVALID_REQUEST, f"key/{key_id} is revoked; create a key")
        if key.signing is not None and not signing.live:
            return _NO_SIGNING
        present = EarlierSecret(
            hash=key.hash,
            display=key.display,
            generation=key.generation,
            expires_at_ms=ends_at_ms,
            pepper=key.pepper,
            signing=key.signing,
        )
        living = tuple(
            msgspec.structs.replace(old, expires_at_ms=min(old.expires_at_ms, ends_at_ms))
            for old in (*key.earlier, present)
            if min(old.expires_at_ms, ends_at_ms) > now_ms
        )
        if len(living) > EARLIER_SECRETS_MAX:
            what = f"key/{key_id} has {EARLIER_SECRETS_MAX} earlier secrets that still work"
            how = "wait until one ends, or rotate without a grace, which ends them all"
            return Refusal(ErrorCode.VERSION_CONFLICT, f"{what}; {how}")
        return msgspec.structs.replace(
            key,
            hash=secret.hash,
            display=secret.display,
            pepper=secret.pepper,
            signing=None if key.signing is None else pepper_name(signing.current),
            generation=key.generation + 1,
            earlier=living,
        )

    return _on_key(key_id, rotate)


def _on_key(key_id: str, change: Callable[[Key], Key | Refusal]) -> Edit:
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
