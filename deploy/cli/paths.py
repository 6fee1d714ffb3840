"""Paths of the admin API."""

from __future__ import annotations

from urllib.parse import quote


def entity_path(kind: str, entity_id: str) -> str:
    """The path of an entity, whose id may contain slashes."""
    return f"/{kind}/{quote(entity_id, safe='', errors='surrogatepass')}"
