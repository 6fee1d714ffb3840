"""Decides one change of the configuration: the entry to write, or why it must not be written.

Invariant: an entry that comes out of here is valid, refers only to what exists, leaves nothing else
without what it refers to, and has the version after the one it was decided against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from ingress.admin.http.bodies import is_id
from ingress.admin.http.refusal import Refusal
from schemas.config_references import Problem
from schemas.config_state import ConfigState
from schemas.entities import Entity, Kind
from schemas.errors import ErrorCode
from schemas.events import ConfigEntry
from schemas.overrides import overrides_about

Edit: TypeAlias = Callable[[Entity | Problem | None], Entity | Refusal | None]
"""From an entity as it is to what it shall be (``None``: deleted). It is ``None`` where there is none,
and a ``Problem`` where it is closed, which it stays until it is written anew or deleted."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an administrator wants of one entity; ``if_match`` is the version it was read at."""

    kind: Kind
    id: str
    edit: Edit
    actor: str
    if_match: int | None = None


def decide(entries: Iterable[ConfigEntry], change: Change, now_ms: int) -> ConfigEntry | Refusal:
    """The entry that makes the change, decided against the newest entry of every entity."""
    if not is_id(change.id):
        return Refusal(ErrorCode.INVALID_REQUEST, f"{change.id!r} cannot be an id")
    state = ConfigState()
    for entry in entries:
        state.apply(entry, entry.version)
    identity = change.kind, change.id
    version = state.entries[identity].version if identity in state.entries else 0
    current = state.entities.get(identity)
    # A closed one cannot be shown, so nobody can have read its version.
    if change.if_match is not None and change.if_match != (version if current else 0):
        found = f"is at version {version}" if current else "does not exist"
        return Refusal(
            ErrorCode.VERSION_CONFLICT,
            f"{change.kind}/{change.id} {found}, not at version {change.if_match}",
        )
    state.forget_ended(now_ms)
    wanted = change.edit(current or state.refused.get(identity))
    if isinstance(wanted, Refusal):
        return wanted
    entry = ConfigEntry(
        kind=change.kind,
        id=change.id,
        version=version + 1,
        body=None if wanted is None else msgspec.json.encode(wanted).decode(),
        written_at_ms=now_ms,
        written_by=change.actor,
    )
    return _dry_run(state, entry) or entry


def _dry_run(state: ConfigState, entry: ConfigEntry) -> Refusal | None:
    """What would be wrong with the whole configuration that is not wrong already."""
    before = set(state.snapshot().problems)
    problem = state.apply(entry, entry.version)
    if problem is not None:
        return Refusal(ErrorCode.INVALID_REQUEST, f"{problem.where}: {problem.what}")
    caused = [p for p in state.snapshot().problems if p not in before]
    if entry.body is None:
        # Overrides of what is deleted go with it; those of others that name it keep it.
        about = {f"{kind}/{entry.id}" for kind in overrides_about(entry.kind)}
        caused = [p for p in caused if p.where not in about]
    if caused:
        named = "; ".join(f"{p.where}: {p.what}" for p in caused[:10])
        return Refusal(ErrorCode.REFERENCE_CONFLICT, named)
    return None
