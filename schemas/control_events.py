"""Events of the control plane: what auditors are told, and what the configuration is. Pure."""

from __future__ import annotations

import msgspec

__all__ = ["AuditRecorded", "ConfigEntry"]


class AuditRecorded(msgspec.Struct, frozen=True, kw_only=True):
    """Something an auditor may ask about; deduplicate by ``audit_id``."""

    audit_id: str
    """Deterministic id, for deduplication."""
    org: str
    """Organization concerned; empty for the whole gateway."""
    action: str
    """refused, deferred, admin.put, admin.delete, ..."""
    actor: str
    """API key id or administrator."""
    request_id: str | None = None
    """Request concerned, if any."""
    at_ms: int
    """Unix milliseconds."""
    detail: str
    """JSON object with the facts."""


class ConfigEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Desired state of one entity; ``body`` is null when it was deleted."""

    kind: str
    """organization, project, user, key, model or backend."""
    id: str
    """Entity id, unique within its kind."""
    version: int
    """1, 2, 3, ... per entity; compare-and-set."""
    body: str | None = None
    """JSON of the entity; null when it was deleted."""
    written_at_ms: int
    """Unix milliseconds."""
    written_by: str
    """Administrator."""
