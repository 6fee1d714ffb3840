"""A small configuration and a key for the tests of ingress."""

from __future__ import annotations

from schemas.config_state import Snapshot
from schemas.entities import Key, Model, Organization, Target
from schemas.ids import api_key, api_key_hash

PEPPER = b"a pepper of thirty-two characters"
SECRET = api_key(bytes(range(32)))
LIMITED_SECRET = api_key(bytes(range(1, 33)))
REVOKED_SECRET = api_key(bytes(range(2, 34)))
EXPIRED_SECRET = api_key(bytes(range(3, 35)))
UNKNOWN_SECRET = api_key(bytes(range(4, 36)))
NOW_MS = 1_700_000_000_000

_MODEL = Model(backends=(Target(backend="b"),), default_max_output_tokens=100)
_CAPPED = Model(backends=(Target(backend="b"),), max_output_tokens=50, image_tokens=1_000)


def _key(secret: str, **more: object) -> Key:
    fields = {
        "org": "acme",
        "hash": api_key_hash(PEPPER, secret),
        "display": "",
        "created_at_ms": 0,
    }
    return Key(**(fields | more))  # type: ignore[arg-type]


def snapshot() -> Snapshot:
    """Two models, and keys of every condition."""
    keys = {
        "key_a": _key(SECRET),
        "key_limited": _key(LIMITED_SECRET, models=("capped", "gone")),
        "key_revoked": _key(REVOKED_SECRET, revoked_at_ms=NOW_MS - 1),
        "key_expired": _key(EXPIRED_SECRET, expires_at_ms=NOW_MS),
    }
    return Snapshot(
        offset=7,
        organizations={"acme": Organization()},
        keys=keys,
        models={"echo": _MODEL, "capped": _CAPPED},
        key_id_by_hash={key.hash: name for name, key in keys.items()},
    )
