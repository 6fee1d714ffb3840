"""What has to change so that the gateway is as a file wants it: pure.

Invariant: entities are written before those that name them and deleted after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from deploy.desired_state.document import BODY_TYPES, reference_problems
from deploy.desired_state.field_problems import Problem
from deploy.desired_state.views import written_fields
from deploy.embedded.seed import KINDS, Entity
from ingress.admin.config.entities import KIND_OF_PATH
from schemas.overrides import OVERRIDES, overrides_about

Current = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Kind to id to the entity as the admin API shows it."""

_NO_HASH: Final = "0" * 64


@dataclass(frozen=True)
class Change:
    """One entity to write (``+`` new, ``~`` changed) or to delete (``-``).

    ``fields`` has the old and the new value of every setting that differs in one that exists.
    """

    sign: Literal["+", "~", "-"]
    entity: Entity
    fields: Mapping[str, tuple[Any, Any]]

    def view(self) -> dict[str, Any]:
        """The change as JSON."""
        facts = {"change": self.sign, "kind": self.entity.kind, "id": self.entity.id}
        fields = {name: {"old": old, "new": new} for name, (old, new) in self.fields.items()}
        return facts | {"fields": fields}

    def text(self) -> str:
        """The change as a line, and below it what differs in an entity that exists."""
        lines = [f"{self.sign} {self.entity.kind}.{self.entity.id}"]
        if self.sign == "~":
            lines += [
                f"    {name}: {_text(old)} -> {_text(new)}"
                for name, (old, new) in self.fields.items()
            ]
        return "\n".join(lines)


def plan(desired: Sequence[Entity], current: Current, *, prune: bool) -> list[Change]:
    """The changes in the order they must be made. ``prune`` deletes what the file leaves out.

    Only kinds that the file mentions are pruned: a file about models says nothing about keys.
    """
    changes = [change for entity in desired if (change := _change(entity, current)) is not None]
    if not prune:
        return changes
    wanted = {(entity.kind, entity.id) for entity in desired}
    mentioned = {entity.kind for entity in desired}
    gone = [
        Change("-", Entity(kind, name, settings_of(kind, view)), {})
        for kind in reversed(KINDS)
        if kind in mentioned
        for name, view in current[kind].items()
        if (kind, name) not in wanted
    ]
    return [*changes, *gone]


def problems_of(
    changes: Iterable[Change], current: Current, overrides: Iterable[Mapping[str, Any]] = ()
) -> list[Problem]:
    """What would be wrong after the changes that is not wrong now.

    ``overrides`` are those in force, as the admin API shows them: what one names cannot leave its route.
    """
    over = [_override(item) for item in overrides if item["in_force"]]
    before = {
        (kind, name): _whole(kind, name, view)
        for kind, views in current.items()
        for name, view in views.items()
    }
    after = dict(before)
    problems: list[Problem] = []
    for change in changes:
        entity = change.entity
        identity = entity.kind, entity.id
        if change.sign == "-":
            del after[identity]
            about = overrides_about(KIND_OF_PATH[entity.kind])
            over = [each for each in over if each.id != entity.id or each.kind not in about]
        elif entity.kind == "keys" and identity not in before:
            what = "does not exist; `tallygate keys create` makes keys and prints their secret"
            problems.append(Problem(f"keys.{entity.id}", what))
        else:
            body = (
                {**before[identity].body, **entity.body} if entity.kind == "keys" else entity.body
            )
            after[identity] = Entity(entity.kind, entity.id, body)
    known = set(reference_problems(before.values()))
    found = reference_problems([*after.values(), *over])
    return problems + [problem for problem in found if problem not in known]


def settings_of(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a file may give, defaults included."""
    wanted = BODY_TYPES[kind]
    names = {field.name for field in msgspec.structs.fields(wanted)}
    given = {name: value for name, value in body.items() if name in names}
    # Through JSON, so that what was read from YAML and what came over HTTP compare equal.
    encoded = msgspec.json.encode(msgspec.convert(given, wanted))
    settings: dict[str, Any] = msgspec.json.decode(encoded)
    return settings


def _change(entity: Entity, current: Current) -> Change | None:
    new = settings_of(entity.kind, entity.body)
    view = current[entity.kind].get(entity.id)
    wanted = Entity(entity.kind, entity.id, new)
    if view is None:
        return Change("+", wanted, {})
    old, leaves = _leaves(settings_of(entity.kind, view)), _leaves(new)
    fields = {name: (old[name], leaves[name]) for name in leaves if old[name] != leaves[name]}
    return Change("~", wanted, fields) if fields else None


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by path, such as ``limits.burst``; a list is one value."""
    leaves: dict[str, Any] = {}
    for name, value in settings.items():
        path = f"{prefix}{name}"
        leaves |= _leaves(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return leaves


def _whole(kind: str, name: str, view: Mapping[str, Any]) -> Entity:
    """The entity as processes know it; the secrets of a key are not shown, and not judged either."""
    hidden: dict[str, Any] = {"hash": _NO_HASH, "pepper": None, "signing": None, "earlier": []}
    return Entity(kind, name, written_fields(view) | (hidden if kind == "keys" else {}))


def _override(view: Mapping[str, Any]) -> Entity:
    """An override as processes know it."""
    fields = OVERRIDES[view["kind"]].__struct_fields__
    return Entity(view["kind"], view["id"], {name: view[name] for name in fields})


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
