"""Decides whom an identity stands for here: its organization must be configured, and what else it names be of it. Pure.

An *identity* is what somebody outside says of a caller: a token of an identity provider, or the user-org service. It
is judged anew by the configuration at each request, so that what an administrator removes is closed at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.entities import Project, User
from schemas.errors import ErrorCode

__all__ = ["Identity", "placed", "user_id_of"]

_HASHED: Final = "sub:"
_HEX_CHARS: Final = 40
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
"""The grammar of ids of entities."""


class Identity(msgspec.Struct, frozen=True):
    """Whom somebody outside says a caller is."""

    key_id: str
    """What stands for the API key in events and usage lines: ``oidc:NAME``, ``user-org`` or ``user-org:KEY``."""
    org: str
    project: str | None = None
    user: str | None = None
    models: tuple[str, ...] | None = None
    """Models that are open to the caller; ``None`` for all."""
    needs_user: bool = False
    """Whether the user must be configured."""
    scopes: tuple[str, ...] | None = None
    """What the caller may do; ``None`` for everything."""


def user_id_of(said: str) -> str:
    """The id of the user whom a provider calls ``said``: the same where that is an id, else ``sub:`` and a digest.

    Two users never share one, whatever they are called.
    """
    if _PLAIN_ID.fullmatch(said) and not said.startswith(_HASHED):
        return said
    return _HASHED + hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()[:_HEX_CHARS]


def placed(identity: Identity, snapshot: Snapshot) -> Caller | Refusal:
    """The caller; 403 when the configuration has no place for it, 503 when that cannot be read here.

    A user who is not configured has no limits of its own; those of organization and project hold.
    """
    org, project, user = identity.org, identity.project, identity.user
    if snapshot.closed and _is_closed(identity, snapshot):
        return _CLOSED
    if org not in snapshot.organizations:
        return _refused(f"The organization {org!r} is not configured here.")
    if project is not None and not _is_of(org, project, snapshot.projects):
        return _refused(f"{org!r} has no project {project!r}.")
    if user is not None and user in snapshot.users:
        if not _is_of(org, user, snapshot.users):
            return _refused(f"The user {user!r} belongs to another organization.")
    elif identity.needs_user:
        return _refused("The user is not configured here.")
    alias = f"{identity.key_id}/{org}/{user or ''}"
    return Caller(
        key_id=identity.key_id,
        org=org,
        project=project,
        user=user,
        models=identity.models,
        scopes=identity.scopes,
        alias=alias,
        owner=None if user is None else alias,
    )


_CLOSED: Final = Refusal(
    ErrorCode.SERVICE_UNAVAILABLE, "The configuration of this caller cannot be read here."
)


def _is_closed(identity: Identity, snapshot: Snapshot) -> bool:
    named = (
        ("organization", identity.org),
        ("project", identity.project),
        ("user", identity.user),
    )
    return any(who in snapshot.closed for who in named)


def _is_of(org: str, name: str, entities: Mapping[str, Project] | Mapping[str, User]) -> bool:
    entity = entities.get(name)
    return entity is not None and entity.org == org


def _refused(why: str) -> Refusal:
    return Refusal(ErrorCode.CALLER_NOT_ALLOWED, why)
