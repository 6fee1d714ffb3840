"""Decides who calls: the API key presented, what it stands for, and which models it may use. Pure.

A malformed key is refused by its checksum, before any look-up. All failures answer alike, so that
an answer does not tell which keys exist; a model that is not open to a key looks like an unknown one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.entities import Model
from schemas.errors import ErrorCode
from schemas.ids import api_key_hash, is_api_key

_KEY_BYTES_MAX: Final = 128
_NAMES_SHOWN: Final = 20
_NAME_CHARS_SHOWN: Final = 128
_NOT_VALID: Final = Refusal(
    ErrorCode.INVALID_API_KEY,
    "The API key is missing or not valid. Send it as X-API-Key or as Authorization: Bearer.",
)
_CLOSED: Final = Refusal(
    ErrorCode.SERVICE_UNAVAILABLE, "The configuration of this key cannot be read here."
)


class Caller(msgspec.Struct, frozen=True):
    """Who pays for a request, and which models the key may use (``None``: all)."""

    key_id: str
    org: str
    project: str | None
    user: str | None
    models: tuple[str, ...] | None


def authenticate(
    headers: Mapping[bytes, bytes], snapshot: Snapshot, pepper: bytes, now_ms: int
) -> Caller | Refusal:
    """The caller behind the request's key; 401 when it is absent, malformed, unknown or over.

    503 when the newest entry of the key, or of what it belongs to, cannot be read in this process.
    """
    secret = _presented_key(headers)
    if secret is None or not is_api_key(secret):
        return _NOT_VALID
    secret_hash = api_key_hash(pepper, secret)
    key_id = snapshot.key_id_by_hash.get(secret_hash)
    if key_id is None:
        return _CLOSED if secret_hash in snapshot.closed_key_hashes else _NOT_VALID
    key = snapshot.keys[key_id]
    if _is_past(key.revoked_at_ms, now_ms) or _is_past(key.expires_at_ms, now_ms):
        return _NOT_VALID
    return Caller(key_id, key.org, key.project, key.user, key.models)


def usable_models(snapshot: Snapshot, caller: Caller) -> list[str]:
    """Names of the models the caller may use, sorted."""
    if caller.models is None:
        return sorted(snapshot.models)
    return sorted(name for name in set(caller.models) if name in snapshot.models)


def find_model(snapshot: Snapshot, caller: Caller, name: str) -> Model | Refusal:
    """The model, or a 404 that lists what the caller may use."""
    model = snapshot.models.get(name)
    if model is not None and (caller.models is None or name in caller.models):
        return model
    if ("model", name) in snapshot.closed and (caller.models is None or name in caller.models):
        what = f"The configuration of the model {name!r} cannot be read here."
        return Refusal(ErrorCode.SERVICE_UNAVAILABLE, what, param="model")
    usable = usable_models(snapshot, caller)
    listed = ", ".join(usable[:_NAMES_SHOWN]) or "none"
    more = f" and {len(usable) - _NAMES_SHOWN} more" if len(usable) > _NAMES_SHOWN else ""
    return Refusal(
        ErrorCode.MODEL_NOT_FOUND,
        f"The model {name[:_NAME_CHARS_SHOWN]!r} does not exist or is not open to this key. "
        f"Models this key may use: {listed}{more}.",
        param="model",
    )


def asked_model(fields: Mapping[str, Any], snapshot: Snapshot, caller: Caller) -> Model | Refusal:
    """The model that a body names."""
    name = fields.get("model")
    if not isinstance(name, str) or not name:
        what = "model must be a non-empty string."
        return Refusal(ErrorCode.INVALID_REQUEST, what, param="model")
    return find_model(snapshot, caller, name)


def _presented_key(headers: Mapping[bytes, bytes]) -> str | None:
    """The key of ``x-api-key``, which wins, or of ``authorization``. An empty one is none: proxies send it, and
    clients whose variable is not set."""
    secret = headers.get(b"x-api-key", b"").strip()
    if not secret:
        scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
    secret = secret.strip()
    return secret.decode("latin-1") if len(secret) <= _KEY_BYTES_MAX else None


def _is_past(at_ms: int | None, now_ms: int) -> bool:
    return at_ms is not None and at_ms <= now_ms
