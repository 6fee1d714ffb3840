"""The configuration as a fold of the config log: pure, and independent of the order of other keys.

``ConfigState`` keeps the newest valid entry of every entity; ``Snapshot`` is what processes use: only
entities whose references exist. Compaction may move an entity behind those that name it, therefore
references are judged on the whole state and never entry by entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from schemas import entities
from schemas.entities import KINDS, Entity, Kind
from schemas.events import ConfigEntry, PinnedPrice
from schemas.money import NANO_PER_USD, nano_usd

__all__ = ["ConfigState", "Problem", "Snapshot", "parse_entity", "pinned_price"]

T = TypeVar("T")

_PRICE_MAX_NANO_USD = 10_000 * NANO_PER_USD
"""Keeps the hold of the largest request far below what the ledger computes exactly."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an entry is not in force: where, and what is wrong."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The configuration in force up to ``offset`` of the config log (-1: nothing read)."""

    offset: int = -1
    organizations: Mapping[str, entities.Organization] = field(default_factory=dict)
    projects: Mapping[str, entities.Project] = field(default_factory=dict)
    users: Mapping[str, entities.User] = field(default_factory=dict)
    keys: Mapping[str, entities.Key] = field(default_factory=dict)
    models: Mapping[str, entities.Model] = field(default_factory=dict)
    backends: Mapping[str, entities.Backend] = field(default_factory=dict)
    prices: Mapping[str, PinnedPrice | None] = field(default_factory=dict)
    """Model to its price under the version of its entry; ``None`` when it has none."""
    key_id_by_hash: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def parse_entity(kind: str, body: str | bytes) -> Entity | Problem:
    """The entity in a JSON body, or what is wrong with it."""
    wanted = KINDS.get(kind)  # type: ignore[call-overload]  # any string may be asked for
    if wanted is None:
        return Problem(kind, f"unknown kind; one of {', '.join(KINDS)}")
    try:
        entity: Entity = msgspec.json.decode(body, type=wanted)
        _check_amounts(entity)
    except (msgspec.DecodeError, ValueError) as error:
        return Problem(kind, str(error))
    return entity


def _check_amounts(entity: Entity) -> None:
    """Raises ``ValueError`` when a USD amount has no exact integer form."""
    if isinstance(entity, entities.Model):
        if (entity.input_usd_per_mtok is None) != (entity.output_usd_per_mtok is None):
            raise ValueError("give both input_usd_per_mtok and output_usd_per_mtok, or neither")
        prices = (
            entity.input_usd_per_mtok,
            entity.output_usd_per_mtok,
            entity.cached_input_usd_per_mtok,
        )
        if any(nano_usd(price or "0") > _PRICE_MAX_NANO_USD for price in prices):
            raise ValueError("a price is above 10000 USD per million tokens")
    elif not isinstance(entity, entities.Backend):
        for budget in entity.limits.budgets:
            nano_usd(budget.usd)


def pinned_price(name: str, model: entities.Model, version: int) -> PinnedPrice | None:
    """The price of a model under the version of its entry; ``None`` when it has none."""
    if model.input_usd_per_mtok is None or model.output_usd_per_mtok is None:
        return None
    return PinnedPrice(
        version=f"{name}@{version}",
        input_nano_usd_per_mtok=nano_usd(model.input_usd_per_mtok),
        cached_input_nano_usd_per_mtok=nano_usd(
            model.cached_input_usd_per_mtok or model.input_usd_per_mtok
        ),
        output_nano_usd_per_mtok=nano_usd(model.output_usd_per_mtok),
    )


@dataclass(slots=True)
class ConfigState:
    """The newest valid entry of every entity; not shared, its owner derives snapshots from it."""

    offset: int = -1
    entities: dict[tuple[Kind, str], Entity] = field(default_factory=dict)
    entries: dict[tuple[str, str], ConfigEntry] = field(default_factory=dict)
    refused: dict[tuple[str, str], Problem] = field(default_factory=dict)

    def apply(self, entry: ConfigEntry, offset: int) -> Problem | None:
        """Take the entry in, or keep the previous one and say why."""
        self.offset = offset
        identity = (entry.kind, entry.id)
        current = self.entries.get(identity)
        if current is not None and entry.version <= current.version:
            # A write that arrived after its writer had lost the lease; the newer one holds.
            return Problem(f"{entry.kind}/{entry.id}", f"version {entry.version} is not new")
        if entry.body is None:
            self.entities.pop(identity, None)  # type: ignore[arg-type]
        else:
            entity = parse_entity(entry.kind, entry.body)
            if isinstance(entity, Problem):
                self.refused[identity] = Problem(f"{entry.kind}/{entry.id}", entity.what)
                return self.refused[identity]
            self.entities[identity] = entity  # type: ignore[index]
        self.refused.pop(identity, None)
        self.entries[identity] = entry
        return None

    def snapshot(self) -> Snapshot:
        """What is in force now: entities whose references exist, and the problems of the rest."""
        problems = list(self.refused.values())
        organizations = self._of(entities.Organization)
        projects = _referring(self._of(entities.Project), organizations, "project", problems)
        users = _referring(self._of(entities.User), organizations, "user", problems)
        keys = _referring(self._of(entities.Key), organizations, "key", problems)
        keys = _with_owners(keys, projects, users, problems)
        backends = self._of(entities.Backend)
        models = _with_routes(self._of(entities.Model), backends, problems)
        return Snapshot(
            offset=self.offset,
            organizations=MappingProxyType(organizations),
            projects=MappingProxyType(projects),
            users=MappingProxyType(users),
            keys=MappingProxyType(keys),
            models=MappingProxyType(models),
            backends=MappingProxyType(backends),
            prices=MappingProxyType(
                {
                    name: pinned_price(name, model, self.entries["model", name].version)
                    for name, model in models.items()
                }
            ),
            key_id_by_hash=MappingProxyType({key.hash: name for name, key in keys.items()}),
            versions=MappingProxyType({who: entry.version for who, entry in self.entries.items()}),
            problems=tuple(problems),
        )

    def _of(self, wanted: type[T]) -> dict[str, T]:
        return {name: e for (_, name), e in self.entities.items() if isinstance(e, wanted)}


def _referring(
    owned: dict[str, T],
    organizations: Mapping[str, entities.Organization],
    kind: str,
    problems: list[Problem],
) -> dict[str, T]:
    kept: dict[str, T] = {}
    for name, entity in owned.items():
        org: Any = getattr(entity, "org", None)
        if org in organizations:
            kept[name] = entity
        else:
            problems.append(Problem(f"{kind}/{name}", f"organization {org!r} does not exist"))
    return kept


def _with_owners(
    keys: dict[str, entities.Key],
    projects: Mapping[str, entities.Project],
    users: Mapping[str, entities.User],
    problems: list[Problem],
) -> dict[str, entities.Key]:
    """Keys whose project and user exist in the key's own organization."""
    kept = {}
    for name, key in keys.items():
        owners = (
            ("project", key.project, projects.get(key.project or "")),
            ("user", key.user, users.get(key.user or "")),
        )
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


def _with_routes(
    models: dict[str, entities.Model],
    backends: Mapping[str, entities.Backend],
    problems: list[Problem],
) -> dict[str, entities.Model]:
    kept = {}
    for name, model in models.items():
        missing = [t.backend for t in model.backends if t.backend not in backends]
        twice = {t.backend for t in model.backends if _count(model, t.backend) > 1}
        if missing:
            problems.append(Problem(f"model/{name}", f"backends do not exist: {missing}"))
        elif twice:
            problems.append(Problem(f"model/{name}", f"backends named twice: {sorted(twice)}"))
        else:
            kept[name] = model
    return kept


def _count(model: entities.Model, backend: str) -> int:
    return sum(target.backend == backend for target in model.backends)


def fold(entries: Iterable[tuple[int, ConfigEntry]]) -> ConfigState:
    """The state after the entries, given as (offset, entry)."""
    state = ConfigState()
    for offset, entry in entries:
        state.apply(entry, offset)
    return state
