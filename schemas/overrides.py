"""What an operator puts over a declared route or backend for a while: pure.

Each override is an entity of its own beside the model or backend that it is about, and has its id. So what was
declared stays as it is, a file that is applied undoes none of them, and to restore is to delete the override.
One that has ended is in force nowhere, whether or not somebody deletes it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec

from schemas.entity_fields import EntityId, Name, TimeMs

__all__ = [
    "OVERRIDES",
    "Canary",
    "Drain",
    "Override",
    "OverrideKind",
    "Pin",
    "Retries",
    "RouteKind",
    "RouteOverrides",
    "Timeout",
    "Weight",
    "Weights",
    "overrides_about",
]

Weight: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
RouteKind: TypeAlias = Literal["pin", "weights", "canary", "timeout", "retries"]
"""Overrides of a model's route; their id is the model."""
OverrideKind: TypeAlias = RouteKind | Literal["drain"]


class _Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all of them have; who wrote one, and when, stands in its entry."""

    expires_at_ms: TimeMs | None = None
    """From when on it is not in force any more; ``None``: until it is restored."""
    reason: Name | None = None

    def has_ended(self, now_ms: int) -> bool:
        """Whether it is not in force any more."""
        return self.expires_at_ms is not None and now_ms >= self.expires_at_ms


_T = TypeVar("_T", bound=_Override)


class Pin(_Override, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All requests of the model go to one backend of its route, and to no other while that is down."""

    backend: EntityId


class Weights(_Override, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of backends of the model's route; those that are not named keep their own."""

    weights: Annotated[dict[EntityId, Weight], msgspec.Meta(min_length=1, max_length=64)]


class Canary(_Override, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One backend of the model's route gets a fixed share of its requests; the others share the rest by weight."""

    backend: EntityId
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)]


class Timeout(_Override, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long an answer of the model may take and its streams may be silent, whatever its backends state."""

    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)]


class Retries(_Override, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many more backends may be called for a request of the model after one that failed."""

    retries: Annotated[int, msgspec.Meta(ge=0, le=1)]


class Drain(_Override, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The backend gets nothing new; what runs there ends in order."""


Override: TypeAlias = Pin | Weights | Canary | Timeout | Retries | Drain

OVERRIDES: Final[dict[OverrideKind, type[Override]]] = {
    "pin": Pin,
    "weights": Weights,
    "canary": Canary,
    "timeout": Timeout,
    "retries": Retries,
    "drain": Drain,
}


def overrides_about(kind: str) -> tuple[OverrideKind, ...]:
    """The overrides whose ids are those of entities of this kind."""
    if kind == "backend":
        return ("drain",)
    return ("pin", "weights", "canary", "timeout", "retries") if kind == "model" else ()


class RouteOverrides(msgspec.Struct, frozen=True):
    """All overrides of one model's route, those included that have ended."""

    pin: Pin | None = None
    weights: Weights | None = None
    canary: Canary | None = None
    timeout: Timeout | None = None
    retries: Retries | None = None

    def at(self, now_ms: int) -> RouteOverrides:
        """Those that are in force at this time."""
        return RouteOverrides(
            _live(self.pin, now_ms),
            _live(self.weights, now_ms),
            _live(self.canary, now_ms),
            _live(self.timeout, now_ms),
            _live(self.retries, now_ms),
        )


def _live(override: _T | None, now_ms: int) -> _T | None:
    return None if override is None or override.has_ended(now_ms) else override
