"""Which entities are in force beside the others that they name: pure.

What names something that does not exist is out of force; what belongs to something closed is closed too,
because limits above it are not known. Both are judged on the whole state, never entry by entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from schemas import entities
from schemas.overrides import Canary, Drain, Override, Pin, RouteOverrides, Weights

__all__ = [
    "Identity",
    "Problem",
    "drains_of",
    "overrides_of",
    "referring",
    "with_owners",
    "with_routes",
]

T = TypeVar("T")

Identity: TypeAlias = tuple[str, str]
"""Kind and id of an entity."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an entry is not in force: where, and what is wrong."""

    where: str
    what: str


def referring(
    owned: dict[str, T],
    organizations: Mapping[str, entities.Organization],
    kind: str,
    closed: set[Identity],
    problems: list[Problem],
) -> dict[str, T]:
    """Those whose organization exists; those of a closed one are closed."""
    kept: dict[str, T] = {}
    for name, entity in owned.items():
        org: Any = getattr(entity, "org", None)
        if org in organizations:
            kept[name] = entity
            continue
        is_closed = ("organization", org) in closed
        if is_closed:
            closed.add((kind, name))
        what = "is closed" if is_closed else "does not exist"
        problems.append(Problem(f"{kind}/{name}", f"organization {org!r} {what}"))
    return kept


def with_owners(
    keys: dict[str, entities.Key],
    projects: Mapping[str, entities.Project],
    users: Mapping[str, entities.User],
    closed: set[Identity],
    problems: list[Problem],
) -> dict[str, entities.Key]:
    """Keys whose project and user exist in the key's own organization."""
    kept = {}
    for name, key in keys.items():
        if key.project is None and key.user is None:
            kept[name] = key
            continue
        owners = (
            ("project", key.project, projects.get(key.project or "")),
            ("user", key.user, users.get(key.user or "")),
        )
        if any((kind, owner) in closed for kind, owner, _ in owners):
            closed.add(("key", name))
            problems.append(Problem(f"key/{name}", "its project or user is closed"))
            continue
        wrong = [
            f"{kind} {owner!r} does not exist in organization {key.org!r}"
            for kind, owner, entity in owners
            if owner is not None and (entity is None or entity.org != key.org)
        ]
        if wrong:
            problems.append(Problem(f"key/{name}", "; ".join(wrong)))
        else:
            kept[name] = key
    return kept


def with_routes(
    models: dict[str, entities.Model],
    backends: Mapping[str, entities.Backend],
    closed: set[Identity],
    problems: list[Problem],
) -> dict[str, entities.Model]:
    """Models whose backends exist. A closed backend is not called, and the others of its route are."""
    kept = {}
    for name, model in models.items():
        named = [target.backend for target in model.backends]
        missing = [b for b in named if b not in backends and ("backend", b) not in closed]
        twice = {b for b in named if named.count(b) > 1}
        if missing:
            problems.append(Problem(f"model/{name}", f"backends do not exist: {missing}"))
        elif twice:
            problems.append(Problem(f"model/{name}", f"backends named twice: {sorted(twice)}"))
        else:
            kept[name] = model
    return kept


def overrides_of(
    overrides: Mapping[Identity, Override],
    models: Mapping[str, entities.Model],
    problems: list[Problem],
) -> dict[str, RouteOverrides]:
    """Overrides by the model whose route they change; one that names what is not there is out of force alone."""
    found: dict[str, dict[str, Any]] = {}
    for (kind, name), override in overrides.items():
        if isinstance(override, Drain):
            continue
        model = models.get(name)
        if model is None:
            problems.append(Problem(f"{kind}/{name}", f"model {name!r} does not exist"))
            continue
        route = {target.backend for target in model.backends}
        if strange := sorted(set(_named_by(override)) - route):
            what = f"not on the route of the model: backends {strange}"
            problems.append(Problem(f"{kind}/{name}", what))
        else:
            found.setdefault(name, {})[kind] = override
    return {name: RouteOverrides(**fields) for name, fields in found.items()}


def drains_of(
    overrides: Mapping[Identity, Override],
    backends: Mapping[str, entities.Backend],
    problems: list[Problem],
) -> dict[str, Drain]:
    """Backends that an operator drained, beside those that are declared so."""
    found = {}
    for (kind, name), override in overrides.items():
        if not isinstance(override, Drain):
            continue
        if name in backends:
            found[name] = override
        else:
            problems.append(Problem(f"{kind}/{name}", f"backend {name!r} does not exist"))
    return found


def _named_by(override: Override) -> Iterator[str]:
    """The backends that an override of a route names."""
    match override:
        case Pin() | Canary():
            yield override.backend
        case Weights():
            yield from override.weights
