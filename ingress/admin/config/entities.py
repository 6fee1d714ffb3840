"""The paths of the entities, their JSON as administrators see it, and the edits of one entity.

Invariant: the hash of a key never leaves the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingress.admin.config.change import Edit
from ingress.admin.http.refusal import Refusal
from schemas.config_references import Problem
from schemas.config_state import parse_entity
from schemas.entities import Backend, Entity, Kind, Organization
from schemas.errors import ErrorCode
from schemas.events import ConfigEntry
from schemas.peppers import Peppers

KIND_OF_PATH: Final[Mapping[str, Kind]] = {
    "orgs": "organization",
    "projects": "project",
    "users": "user",
    "keys": "key",
    "models": "model",
    "backends": "backend",
}
_NO_WEBHOOKS: Final = Refusal(
    ErrorCode.INVALID_REQUEST,
    "webhooks need TALLYGATE_WEBHOOK_PEPPER, the same on the control plane and every dispatcher",
)


def view(entry: ConfigEntry) -> dict[str, Any] | None:
    """What an administrator sees of an entry: id, version, fields; ``None`` when it is deleted."""
    if entry.body is None:
        return None
    entity = parse_entity(entry.kind, entry.body)
    if isinstance(entity, Problem):
        return None
    return {"id": entry.id, "version": entry.version, **fields_of(entity)}


def fields_of(entity: Entity) -> dict[str, Any]:
    """The fields of an entity, defaults included, without what is secret."""
    fields: dict[str, Any] = msgspec.to_builtins(entity)
    for secret in (fields, *fields.get("earlier", ())):
        secret.pop("hash", None)
    return fields


def with_pepper_ages(view: dict[str, Any], keys: Peppers, signing: Peppers) -> dict[str, Any]:
    """The view of a key that says which pepper each secret belongs to: current, previous, or unknown."""

    def aged(secret: dict[str, Any]) -> dict[str, Any]:
        name = secret["signing"]
        signed = None if name is None else signing.age_of(name)
        return secret | {"pepper": keys.age_of(secret["pepper"]), "signing": signed}

    return aged(view) | {"earlier": [aged(old) for old in view["earlier"]]}


def refuse_unsigned(kind: Kind, body: bytes, webhook_peppers: Peppers) -> Refusal | None:
    """Why webhooks in the body of an organization could not be sent: nobody here knows their secrets."""
    if webhook_peppers.live or kind != "organization":
        return None
    entity = parse_entity(kind, body)
    return _NO_WEBHOOKS if isinstance(entity, Organization) and entity.webhooks else None


def replacement(kind: Kind, body: bytes) -> Edit | Refusal:
    """The edit that makes the entity what the body says."""
    entity = parse_entity(kind, body)
    if isinstance(entity, Problem):
        return Refusal(ErrorCode.INVALID_REQUEST, f"{entity.where}: {entity.what}")
    return lambda _: entity


def removal(kind: Kind, entity_id: str) -> Edit:
    """The edit that deletes the entity."""

    def remove(current: Entity | Problem | None) -> Refusal | None:
        return not_found(kind, entity_id) if current is None else None

    return remove


def activation(entity_id: str) -> Edit:
    """The edit that puts a backend to use that is declared drained."""

    def activate(current: Entity | Problem | None) -> Entity | Refusal:
        if not isinstance(current, Backend):
            return not_found("backend", entity_id)
        return msgspec.structs.replace(current, state="active")

    return activate


def not_found(kind: Kind, entity_id: str) -> Refusal:
    """The refusal that names what does not exist."""
    return Refusal(ErrorCode.NOT_FOUND, f"{kind}/{entity_id} does not exist")
