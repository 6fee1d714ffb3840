"""What an operator set of an entity, as the admin API shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["written_fields"]

_NOT_SETTINGS: Final = frozenset({"id", "version", "health", "drained"})


def written_fields(view: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a view that somebody configured, as they are written back."""
    return {name: value for name, value in view.items() if name not in _NOT_SETTINGS}
