"""The configuration as a fold of the config log: pure, and independent of the order of other keys.

``ConfigState`` keeps the newest valid entry of every entity; ``Snapshot`` is what processes use: only
entities whose references exist. Compaction may move an entity behind those that name it, therefore
references are judged on the whole state and never entry by entry.

An entity whose newest entry cannot be read here is closed, and so is what belongs to it: its earlier
entry would be other limits than an administrator wrote, and no entry would be none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from schemas import entities
from schemas.config_references import (
    Identity,
    Problem,
    drains_of,
    overrides_of,
    referring,
    with_owners,
    with_routes,
)
from schemas.entities import KINDS, Entity, EntityId
from schemas.events import ConfigEntry
from schemas.money import nano_usd
from schemas.overrides import OVERRIDES, Drain, Override, RouteOverrides
from schemas.pricing.entries import Price
from schemas.pricing.price_list import PriceList, price_list

__all__ = [
    "ADOPTION",
    "BIRTH",
    "LEDGER_SHARD",
    "Birth",
    "ConfigState",
    "Snapshot",
    "parse_entity",
    "prices_of",
]

ADOPTION: Final[Identity] = ("log", "adopted")
"""Not an entity: an administrator accepts this log although it ends below the offset in its body."""

LEDGER_SHARD: Final = "ledger_shard"
"""Not an entity: a shard of the ledger, by its number, and the epoch that its owner announced for it. The epoch is
the entry's version as well, so that the highest stands whoever wrote later."""

BIRTH: Final[Identity] = ("log", "birth")
"""Not an entity: which log this is, as whoever made its topics said."""

_VERSION_MAX = 2**53
_PROBLEM_CHARS_MAX = 1_000
_LIMITED: Final = (entities.Organization, entities.Project, entities.User, entities.Key)

T = TypeVar("T")


class Birth(msgspec.Struct, frozen=True):
    """The ids of two topics since they were made: a topic that was made anew has another one."""

    config: str
    outcomes: str
    """Empty where only the config log was made anew."""


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
    prices: Mapping[str, PriceList] = field(default_factory=dict)
    """Model to its prices under the version of its entry; an empty list when it has none."""
    key_id_by_hash: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[Identity, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    closed: frozenset[Identity] = frozenset()
    """What cannot be read here, and what belongs to it: it is left out above, and whoever names it is
    told to come again, for it may have limits that nobody here knows."""
    ledger_epochs: Mapping[int, int] = field(default_factory=dict)
    """By shard of the ledger the highest epoch that an owner announced: a store with a lower one is an older
    copy of the shard."""
    birth_id: str | None = None
    """The id of the log of outcomes since it was made, where that was said."""
    closed_key_hashes: frozenset[str] = frozenset()
    """The secrets of closed keys, as far as they are known."""
    overrides: Mapping[str, RouteOverrides] = field(default_factory=dict)
    """What operators put over routes, by model; whether it has ended is for who has a clock (``schemas.routes``)."""
    drains: Mapping[str, Drain] = field(default_factory=dict)
    """The same, of backends."""

    def closes(self, org: str, project: str | None, key: str, user: str | None, model: str) -> bool:
        """Whether anything that a request names is closed."""
        if not self.closed:
            return False
        named = (("organization", org), ("project", project), ("key", key), ("user", user))
        return any(who in self.closed for who in (*named, ("model", model)))


def parse_entity(kind: str, body: str | bytes) -> Entity | Problem:
    """The entity in a JSON body, or what is wrong with it."""
    wanted = KINDS.get(kind)  # type: ignore[call-overload]  # any string may be asked for
    if wanted is None:
        return Problem(kind, f"unknown kind; one of {', '.join(KINDS)}")
    try:
        entity: Entity = msgspec.json.decode(body, type=wanted)
        _check_amounts(entity)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Problem(kind, str(error)[:_PROBLEM_CHARS_MAX])
    return entity


def _check_amounts(entity: Entity) -> None:
    """Raises ``ValueError`` when a USD amount has no exact integer form."""
    if isinstance(entity, entities.Model):
        prices_of("", entity, 1)
    elif isinstance(entity, _LIMITED):
        for budget in entity.limits.budgets:
            nano_usd(budget.usd)


def prices_of(name: str, model: entities.Model, version: int) -> PriceList:
    """The prices of a model under the version of its entry. Raises ``ValueError`` when they contradict
    themselves or have no exact integers."""
    short = Price(
        input_usd_per_mtok=model.input_usd_per_mtok,
        output_usd_per_mtok=model.output_usd_per_mtok,
        cached_input_usd_per_mtok=model.cached_input_usd_per_mtok,
    )
    prices = model.prices
    if short != Price():
        if prices:
            raise ValueError("give prices, or the three prices of a model, not both")
        prices = (short,)
    multipliers = {target.backend: target.price_multiplier for target in model.backends}
    return price_list(f"{name}@{version}", prices, multipliers)


class _Hash(msgspec.Struct):
    """All that is wanted of a secret of a closed key."""

    hash: str


class _Earlier(msgspec.Struct):
    """The same of those before it."""

    earlier: tuple[_Hash, ...] = ()


@dataclass(slots=True)
class ConfigState:
    """The newest entry of every entity; not shared, its owner derives snapshots from it."""

    offset: int = -1
    entities: dict[Identity, Entity] = field(default_factory=dict)
    """What is neither deleted nor closed."""
    entries: dict[Identity, ConfigEntry] = field(default_factory=dict)
    """The newest entry that could be decoded, whether or not its body is an entity."""
    refused: dict[Identity, Problem] = field(default_factory=dict)
    """What is closed, and why."""
    accepted_below: int = -1
    """An administrator accepts this log in place of one that ended at this offset."""

    def apply(self, entry: ConfigEntry, offset: int) -> Problem | None:
        """Take the entry in; or say why it is none, and close its entity."""
        self.offset = offset
        identity = (entry.kind, entry.id)
        current = self.entries.get(identity)
        if entry == current and identity not in self.refused:
            return None  # Written again, to sign it.
        if current is not None and entry.version <= current.version:
            # A write that arrived after its writer had lost the lease; the newer one holds.
            return Problem(_name(identity), f"version {entry.version} is not new")
        if not 0 < entry.version < _VERSION_MAX:
            return self.close(identity, f"version {entry.version} is out of bounds", offset)
        self.entries[identity] = entry
        if identity == ADOPTION:
            self.accepted_below = _offset_in(entry.body)
            return None
        if identity == BIRTH or entry.kind == LEDGER_SHARD:
            return None
        entity = None if entry.body is None else _entity_of(entry, entry.body)
        if isinstance(entity, Problem):
            return self.close(identity, entity.what, offset)
        self.refused.pop(identity, None)
        if entity is None:
            self.entities.pop(identity, None)
        else:
            self.entities[identity] = entity
        return None

    def close(self, identity: Identity, why: str, offset: int) -> Problem:
        """The newest entry of the entity cannot be read; it stays closed until one can."""
        self.offset = offset
        self.entities.pop(identity, None)
        self.refused[identity] = Problem(_name(identity), why)
        return self.refused[identity]

    def forget_ended(self, now_ms: int) -> None:
        """Overrides that have ended bind nobody any more: what they name may go."""
        for identity, override in self._overrides().items():
            if override.has_ended(now_ms):
                del self.entities[identity]

    @property
    def birth(self) -> Birth | None:
        """Which log this is; ``None`` where nobody said so in a way that is understood here."""
        entry = self.entries.get(BIRTH)
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(entry.body or "", type=Birth) if entry else None
        return None

    def snapshot(self) -> Snapshot:
        """What is in force now: entities whose references exist, and the problems of the rest."""
        problems = list(self.refused.values())
        closed = set(self.refused)
        organizations = self._of(entities.Organization)
        projects = referring(self._of(entities.Project), organizations, "project", closed, problems)
        users = referring(self._of(entities.User), organizations, "user", closed, problems)
        all_keys = self._of(entities.Key)
        keys = referring(all_keys, organizations, "key", closed, problems)
        keys = with_owners(keys, projects, users, closed, problems)
        backends = self._of(entities.Backend)
        models = with_routes(self._of(entities.Model), backends, closed, problems)
        overrides = self._overrides()
        routes = overrides_of(overrides, models, problems)
        drains = drains_of(overrides, backends, problems)
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
                    name: prices_of(name, model, self.entries["model", name].version)
                    for name, model in models.items()
                }
            ),
            key_id_by_hash=MappingProxyType(_names_by_hash(keys)),
            versions=MappingProxyType({who: entry.version for who, entry in self.entries.items()}),
            problems=tuple(problems),
            closed=frozenset(closed),
            ledger_epochs=MappingProxyType(_epochs_in(self.entries)),
            birth_id=(self.birth.outcomes or None) if self.birth else None,
            closed_key_hashes=_hashes_of(closed, all_keys, self.entries),
            overrides=MappingProxyType(routes),
            drains=MappingProxyType(drains),
        )

    def _overrides(self) -> dict[Identity, Override]:
        """By kind first: there may be a hundred thousand other entities."""
        return {
            who: entity
            for who, entity in self.entities.items()
            if who[0] in OVERRIDES and isinstance(entity, Override)
        }

    def _of(self, wanted: type[T]) -> dict[str, T]:
        return {name: e for (_, name), e in self.entities.items() if isinstance(e, wanted)}


def _names_by_hash(keys: Mapping[str, entities.Key]) -> dict[str, str]:
    """Keys by the hash of each secret, those of earlier secrets included."""
    names = {old.hash: name for name, key in keys.items() for old in key.earlier}
    names |= {key.hash: name for name, key in keys.items()}
    return names


def _name(identity: Identity) -> str:
    return "/".join(identity)


def _entity_of(entry: ConfigEntry, body: str) -> Entity | Problem:
    try:
        msgspec.convert(entry.id, EntityId)
    except msgspec.ValidationError as error:
        return Problem(entry.kind, f"its id: {error}")
    return parse_entity(entry.kind, body)


def _hashes_of(
    closed: Iterable[Identity],
    keys: Mapping[str, entities.Key],
    entries: Mapping[Identity, ConfigEntry],
) -> frozenset[str]:
    """The hashes of closed keys, also where the rest of the body cannot be read."""
    hashes = set()
    for kind, name in closed:
        entry = entries.get((kind, name)) if kind == "key" else None
        if kind == "key" and name in keys:
            hashes |= {keys[name].hash, *(old.hash for old in keys[name].earlier)}
        elif entry is not None:
            with suppress(msgspec.DecodeError, ValueError, RecursionError):
                hashes.add(msgspec.json.decode(entry.body or "", type=_Hash).hash)
                earlier = msgspec.json.decode(entry.body or "", type=_Earlier).earlier
                hashes |= {old.hash for old in earlier}
    return frozenset(hashes)


def _epochs_in(entries: Mapping[Identity, ConfigEntry]) -> dict[int, int]:
    return {
        int(name): entry.version
        for (kind, name), entry in entries.items()
        if kind == LEDGER_SHARD and name.isdecimal() and name.isascii()
    }


def _offset_in(body: str | None) -> int:
    return int(body) if body and body.isdecimal() and body.isascii() else -1


def fold(entries: Iterable[tuple[int, ConfigEntry]]) -> ConfigState:
    """The state after the entries, given as (offset, entry)."""
    state = ConfigState()
    for offset, entry in entries:
        state.apply(entry, offset)
    return state
