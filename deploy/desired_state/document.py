"""The desired state in a tallygate.yaml: a mapping kind -> id -> settings, judged as a whole.

Every problem is found and named by its path before anything is changed; amounts and references are
judged by the very rules that the processes apply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.desired_state.field_problems import Problem, field_problems
from deploy.embedded.problem import StackError
from deploy.embedded.seed import KINDS, Entity
from ingress.admin.config.api_keys import KeyFields
from ingress.admin.config.entities import KIND_OF_PATH
from schemas.config_state import ConfigState
from schemas.entities import KINDS as ENTITY_TYPES
from schemas.entities import EntityId
from schemas.events import ConfigEntry

_PATH_OF_KIND: Final[Mapping[str, str]] = {kind: path for path, kind in KIND_OF_PATH.items()}
BODY_TYPES: Final[Mapping[str, type]] = {
    **{path: ENTITY_TYPES[kind] for path, kind in KIND_OF_PATH.items()},
    # A key's secret is made by the gateway, so a file can only change keys that exist.
    "keys": KeyFields,
}


@dataclass(frozen=True)
class DesiredState:
    """What a file wants, in the order it must be applied, and what is wrong with the file."""

    entities: tuple[Entity, ...]
    problems: tuple[Problem, ...]


def read_desired_state(path: Path) -> tuple[Entity, ...]:
    """The entities of a file. Raises StackError that lists every problem of their settings."""
    try:
        state = parse_desired_state(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise bad_file(path, [str(error)]) from error
    if state.problems:
        raise bad_file(path, map(str, state.problems))
    return state.entities


def parse_desired_state(text: str) -> DesiredState:
    """The entities in the text and the problems of their settings; references are not looked at."""
    try:
        content = yaml.load(text, Loader=_StrictLoader) or {}  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        return DesiredState((), (Problem("(file)", " ".join(str(error).split())),))
    if not isinstance(content, dict):
        return DesiredState((), (Problem("(file)", "Expected a mapping kind -> id -> settings"),))
    problems = [
        Problem(str(kind), f"unknown kind; one of {', '.join(KINDS)}")
        for kind in content
        if kind not in KINDS
    ]
    entities: list[Entity] = []
    for kind in KINDS:
        settings = content.get(kind) or {}
        if not isinstance(settings, dict):
            problems.append(Problem(kind, "Expected a mapping from id to settings"))
            continue
        for name, body in settings.items():
            entities.append(Entity(kind, str(name), {} if body is None else body))
            problems += _entity_problems(entities[-1])
    return DesiredState(tuple(entities), tuple(problems))


def reference_problems(entities: Iterable[Entity]) -> list[Problem]:
    """What is wrong with these entities as a whole configuration: amounts and references."""
    state = ConfigState()
    for offset, entity in enumerate(entities):
        state.apply(_entry(entity), offset)
    return [Problem(_path_of(p.where), p.what) for p in state.snapshot().problems]


def bad_file(path: Path, problems: Iterable[str]) -> StackError:
    """The failure that lists a file's problems, each on a line of its own."""
    return StackError(
        f"{path} cannot be used as desired state", "\n       ".join(problems), "correct the file"
    )


class _StrictLoader(yaml.SafeLoader):
    """Reads scalars as JSON does, and keys as they are written; refuses a key that stands twice in a mapping.

    YAML 1.1 would read the ids ``no``, ``0x1F``, ``010`` and ``12:30`` as false, 31, 8 and 750, amounts
    likewise, and would keep the last of two keys. What looks like nothing of JSON is a text here (YAML 1.2.2,
    10.2, JSON schema, but for the texts), so that where a number is wanted it is refused.
    """

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - theirs
    ) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is no text", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands here twice", node.start_mark
                )
            seen.add(key.value)
        # What << brings in stands first, so that a mapping's own keys win.
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _form, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"-?(0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", list("-0123456789")),
    ("merge", r"<<", ["<"]),
):
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})\\Z"), _first
    )


def _entity_problems(entity: Entity) -> Iterator[Problem]:
    path = f"{entity.kind}.{entity.id}"
    yield from field_problems(entity.id, EntityId, f"{path} (its id)")
    yield from field_problems(entity.body, BODY_TYPES[entity.kind], path)


def _entry(entity: Entity) -> ConfigEntry:
    return ConfigEntry(
        kind=KIND_OF_PATH.get(entity.kind, entity.kind),
        id=entity.id,
        version=1,
        body=json.dumps(entity.body),
        written_at_ms=0,
        written_by="",
    )


def _path_of(where: str) -> str:
    """A problem's place as the file names it: ``model/a`` stands at ``models.a``. Overrides stand in no file."""
    kind, _, name = where.partition("/")
    return f"{_PATH_OF_KIND[kind]}.{name}" if kind in _PATH_OF_KIND else where
