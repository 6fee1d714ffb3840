"""Overrides as administrators see them, and the models that they leave without a backend. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NotRequired, TypedDict

import msgspec

from schemas.config_references import Problem
from schemas.config_state import Snapshot, parse_entity
from schemas.entities import Model
from schemas.events import ConfigEntry
from schemas.overrides import (
    OVERRIDES,
    Canary,
    Drain,
    Override,
    OverrideKind,
    Pin,
    Retries,
    Timeout,
    Weights,
)
from schemas.routes import route_at

__all__ = ["OverrideShown", "overrides_shown", "unended", "warnings"]

ENDED: Final = "ended"
_WARNINGS_MAX: Final = 20


class OverrideShown(TypedDict):
    """An override that nobody deleted, with the fields of its kind; `why_not` says why it is out of force."""

    kind: OverrideKind
    id: str
    version: int
    what: str
    backend: NotRequired[str]
    weights: NotRequired[dict[str, int]]
    percent: NotRequired[float]
    timeout_s: NotRequired[float]
    retries: NotRequired[int]
    expires_at_ms: NotRequired[int | None]
    reason: NotRequired[str | None]
    by: str
    at_ms: int
    in_force: bool
    why_not: str | None


def overrides_shown(
    entries: Iterable[ConfigEntry], problems: Iterable[Problem], now_ms: int
) -> list[dict[str, Any]]:
    """All overrides that nobody deleted, by what they are about: who wrote each, and whether it is in force."""
    wrong = {problem.where: problem.what for problem in problems}
    found = [_shown(entry, wrong, now_ms) for entry in entries if entry.kind in OVERRIDES]
    return sorted(filter(None, found), key=lambda item: (item["id"], item["kind"]))


def unended(problems: Iterable[Problem], overrides: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """The problems without those of overrides that have ended: what they name may be gone by now."""
    ended = {f"{item['kind']}/{item['id']}" for item in overrides if item["why_not"] == ENDED}
    return [problem for problem in problems if problem.where not in ended]


def warnings(config: Snapshot, name: str, now_ms: int, *, is_of_backend: bool) -> list[str]:
    """Models without a backend that is in use: this one, or all whose routes lead to this backend."""
    models = [
        model
        for model, entity in sorted(config.models.items())
        if (_leads_to(entity, name) if is_of_backend else model == name)
    ]
    without = [model for model in models if not _has_backend(config, model, now_ms)]
    told = [f"model {model} has no backend in use: its requests end with 503" for model in without]
    more = len(told) - _WARNINGS_MAX
    return told if more <= 0 else [*told[:_WARNINGS_MAX], f"and {more} models more"]


def _has_backend(config: Snapshot, model: str, now_ms: int) -> bool:
    route = route_at(model, config, now_ms)
    return route is not None and bool(route.targets)


def _leads_to(model: Model, backend: str) -> bool:
    return any(target.backend == backend for target in model.backends)


def _shown(entry: ConfigEntry, wrong: Mapping[str, str], now_ms: int) -> dict[str, Any] | None:
    if entry.body is None:
        return None
    override, why_not = parse_entity(entry.kind, entry.body), wrong.get(f"{entry.kind}/{entry.id}")
    fields: dict[str, Any] = {}
    if isinstance(override, Override):
        fields = msgspec.to_builtins(override)
        why_not = ENDED if override.has_ended(now_ms) else why_not
    else:
        why_not = why_not or "cannot be read"
    return {
        "kind": entry.kind,
        "id": entry.id,
        "version": entry.version,
        "what": _said(override),
        **fields,
        "by": entry.written_by,
        "at_ms": entry.written_at_ms,
        "in_force": why_not is None,
        "why_not": why_not,
    }


def _said(override: Any) -> str:
    """What an override says, in a few words."""
    match override:
        case Pin():
            return f"only {override.backend}"
        case Weights():
            return ", ".join(f"{name}={weight}" for name, weight in override.weights.items())
        case Canary():
            return f"{override.percent:g} % to {override.backend}"
        case Timeout():
            return f"{override.timeout_s:g} s"
        case Retries():
            return f"{override.retries}"
        case Drain():
            return "nothing new"
        case _:
            return "?"
