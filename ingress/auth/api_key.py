"""Decides who calls with an API key: what it stands for, and which models it may use. Pure.

A malformed key is refused by its checksum, before any look-up. All failures answer alike, so that
an answer does not tell which keys exist; a model that is not open to a key looks like an unknown one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ingress.auth.caller import Caller, Verdict
from ingress.auth.signature import Unproven, read_claim
from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from schemas.config_state import Snapshot
from schemas.entities import Key, Model
from schemas.errors import ErrorCode
from schemas.ids import KEY_PREFIX, api_key_hash, is_api_key, signing_secret
from schemas.peppers import Peppers
from schemas.pricing.tiers import FLEX, named

_NAMES_SHOWN: Final = 20
_NAME_CHARS_SHOWN: Final = 128
NOT_VALID: Final = Refusal(
    ErrorCode.INVALID_API_KEY,
    "The API key is missing or not valid. Send it as X-API-Key or as Authorization: Bearer.",
)
_CLOSED: Final = Refusal(
    ErrorCode.SERVICE_UNAVAILABLE, "The configuration of this key cannot be read here."
)

_NOT_DERIVED: Final = Refusal(
    ErrorCode.SERVICE_UNAVAILABLE,
    "The signing secret of this key cannot be derived here: its pepper is missing.",
)

KeyVerdict: TypeAlias = Verdict | Unproven


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Tells callers from API keys: look-ups in memory, which wait for nothing."""

    peppers: Peppers
    """What API keys are hashed with."""
    signing: Peppers
    """What signing secrets are derived with."""

    def tell(self, credentials: Credentials, snapshot: Snapshot, now_ms: int) -> KeyVerdict:
        """The caller behind an API key, of a signed one yet unproven; 401 when it is malformed, unknown or over, ``None`` for what is no key.

        503 when the newest entry of the key, or of what it belongs to, cannot be read in this process. A key that
        is hashed with the current pepper costs one HMAC, any other one for each pepper that lives.
        """
        secret = credentials.secret
        if not secret.startswith(KEY_PREFIX):
            return None
        if not is_api_key(secret):
            return NOT_VALID
        for pepper in self.peppers.live:
            secret_hash = api_key_hash(pepper, secret)
            key_id = snapshot.key_id_by_hash.get(secret_hash)
            if key_id is not None:
                key = snapshot.keys[key_id]
                caller = _caller(key_id, key, secret_hash, now_ms)
                if key.signing is None or isinstance(caller, Refusal):
                    return caller
                return self._unproven(caller, key, credentials, now_ms)
            if secret_hash in snapshot.closed_key_hashes:
                return _CLOSED
        return NOT_VALID

    def _unproven(
        self, caller: Caller, key: Key, credentials: Credentials, now_ms: int
    ) -> Unproven | Refusal:
        """The caller of a signed key. Whatever secret of the key came, any living signing secret may have signed,
        because clients do not replace both in the same moment."""
        claim = read_claim(credentials.head, now_ms)
        if isinstance(claim, Refusal):
            return claim
        living = [(key.generation, key.signing)]
        living += [
            (old.generation, old.signing)
            for old in key.earlier
            if not _is_past(old.expires_at_ms, now_ms)
        ]
        secrets = tuple(
            signing_secret(pepper, caller.key_id, generation)
            for generation, name in living
            if name is not None and (pepper := self.signing.named(name)) is not None
        )
        return Unproven(caller, claim, secrets) if secrets else _NOT_DERIVED


def _caller(key_id: str, key: Key, secret_hash: str, now_ms: int) -> Caller | Refusal:
    """The caller of a key, unless the key is over, or this secret of it."""
    if _is_past(key.revoked_at_ms, now_ms) or _is_past(key.expires_at_ms, now_ms):
        return NOT_VALID
    if key.earlier:
        ends = (old.expires_at_ms for old in key.earlier if old.hash == secret_hash)
        if secret_hash != key.hash and _is_past(next(ends, 0), now_ms):
            return NOT_VALID
    return Caller(key_id, key.org, key.project, key.user, key.models, key.scopes, key.networks)


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


def _is_past(at_ms: int | None, now_ms: int) -> bool:
    return at_ms is not None and at_ms <= now_ms


def runs_as_flex(fields: Mapping[str, Any], snapshot: Snapshot, caller: Caller) -> bool:
    """Whether the body asks for flex, by OpenAI's ``service_tier``, or leaves the tier open (``auto``, or none) and flex is
    what the caller's requests run in then. Other tiers are the backend's own."""
    asked = fields.get("service_tier")
    if asked is None and isinstance(inner := fields.get("parameters"), dict):
        asked = inner.get("service_tier")
    tier = named(asked) if isinstance(asked, str) else None
    return (_usual_tier(snapshot, caller) if tier is None else tier) == FLEX


def _usual_tier(snapshot: Snapshot, caller: Caller) -> str | None:
    """The tier of requests that name none: what the key states, else its project, else its organization."""
    key = snapshot.keys.get(caller.key_id)
    if key is not None and key.service_tier is not None:
        return key.service_tier
    project = None if caller.project is None else snapshot.projects.get(caller.project)
    if project is not None and project.service_tier is not None:
        return project.service_tier
    org = snapshot.organizations.get(caller.org)
    return None if org is None else org.service_tier
