"""Which records of a range are wanted: by organization, model and status. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ALL", "Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """The values that are wanted of each field; an empty one wants all."""

    orgs: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()

    @classmethod
    def of(cls, orgs: Sequence[str], models: Sequence[str], statuses: Sequence[str]) -> Selection:
        """The selection of a command line."""
        return cls(frozenset(orgs), frozenset(models), frozenset(statuses))

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out, so that no record has to be decoded to know it."""
        return not (self.orgs or self.models or self.statuses)

    def wants(self, event: Any) -> bool:
        """Whether an event is wanted. One without the field has another value than any that is named."""
        return self.wants_whose(event) and self._has(self.statuses, event, "status")

    def wants_whose(self, event: Any) -> bool:
        """The same by organization and model alone, which all events of a request share."""
        return self._has(self.orgs, event, "org") and self._has(self.models, event, "model")

    @staticmethod
    def _has(wanted: frozenset[str], event: Any, field: str) -> bool:
        return not wanted or getattr(event, field, None) in wanted

    def __str__(self) -> str:
        """For people."""
        named = (
            ("organization", self.orgs),
            ("model", self.models),
            ("status", self.statuses),
        )
        return "; ".join(f"{name} {', '.join(sorted(all_))}" for name, all_ in named if all_)


ALL: Final = Selection()
