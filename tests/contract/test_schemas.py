"""Schemas: the classes match them, ids never change, and every version reads every other."""

from __future__ import annotations

import ast
import copy
import itertools
import json
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest

from deploy.schema_files.compatibility import problems_of, unreadable_fields
from schemas import codec, events
from schemas.codec import Published, published_schemas
from tests.support.calls_in_code import parsed_files

_FOLDER = Path(codec.__file__).parent / "avro"
_PUBLISHED = published_schemas()
_NEWEST = {published.name: published.schema for published in _PUBLISHED}
_PRIMITIVES: dict[Any, set[str]] = {
    str: {"string"},
    bytes: {"bytes"},
    bool: {"boolean"},
    int: {"int", "long"},
}


def _records_in(schema: Any) -> typing.Iterator[dict[str, Any]]:
    """All records named inside a schema, itself included."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _records_in(branch)
    elif isinstance(schema, dict):
        if schema["type"] == "record":
            yield schema
            for field in schema["fields"]:
                yield from _records_in(field["type"])
        for inner in ("items", "values"):
            yield from _records_in(schema.get(inner))


def _mismatch(annotation: Any, schema: Any) -> str | None:
    """Why a Python type and an Avro type are not the same, if they are not."""
    if get_origin(annotation) in (typing.Union, types.UnionType):
        (plain,) = (a for a in get_args(annotation) if a is not type(None))
        if not isinstance(schema, list) or schema[0] != "null" or len(schema) != 2:
            return f"{annotation} is not a union of null and one type"
        return _mismatch(plain, schema[1])
    if get_origin(annotation) is list:
        return _mismatch(get_args(annotation)[0], schema["items"])
    if get_origin(annotation) is dict:
        return _mismatch(get_args(annotation)[1], schema["values"])
    if annotation in _PRIMITIVES:
        return None if schema in _PRIMITIVES[annotation] else f"{annotation} is not {schema}"
    name = schema["name"] if isinstance(schema, dict) else str(schema).rpartition(".")[2]
    return None if annotation.__name__ == name else f"{annotation} is not {name}"


def _compatible(reader: dict[str, Any], writer: dict[str, Any]) -> bool:
    return not unreadable_fields(reader, writer)


_RECORDS = [
    pytest.param(record, id=f"{name}/{record['name']}" if record["name"] != name else name)
    for name, schema in _NEWEST.items()
    for record in _records_in(schema)
]


@pytest.mark.parametrize("record", _RECORDS)
def test_a_class_matches_its_schema_field_for_field(record: dict[str, Any]) -> None:
    """Same names in the same order, same types, same fields without a value."""
    event = getattr(events, record["name"])
    hints = typing.get_type_hints(event)
    fields = record["fields"]

    assert [field["name"] for field in fields] == list(event.__struct_fields__)
    assert {f["name"]: m for f in fields if (m := _mismatch(hints[f["name"]], f["type"]))} == {}


@pytest.mark.parametrize("record", _RECORDS)
def test_a_default_of_the_schema_is_that_of_the_class(record: dict[str, Any]) -> None:
    """A record of an older writer reads as if today's code had left the field out."""
    defaults = {
        field.name: field.default
        if field.default_factory is msgspec.NODEFAULT
        else field.default_factory()
        for field in msgspec.structs.fields(getattr(events, record["name"]))
    }

    for field in record["fields"]:
        if "default" in field:
            assert defaults[field["name"]] == field["default"], field["name"]


@pytest.mark.parametrize("record", _RECORDS)
def test_every_record_and_field_says_what_it_means(record: dict[str, Any]) -> None:
    """The schema is the documentation of the topic."""
    assert record["doc"]
    assert [field["name"] for field in record["fields"] if not field.get("doc")] == []


_EVENTS_IN = {
    "schemas/events.py",
    "schemas/event_parts.py",
    "schemas/control_events.py",
    "schemas/shard_events.py",
    "schemas/price_parts.py",
}


@cache
def _told() -> dict[tuple[str, str], str]:
    """What stands under each field of a class, by class and field."""
    told = {}
    for path, tree in parsed_files():
        if path not in _EVENTS_IN:
            continue
        for node in (each for each in tree.body if isinstance(each, ast.ClassDef)):
            for field, below in itertools.pairwise(node.body):
                match field, below:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        told[node.name, name] = text
    return told


@pytest.mark.parametrize("record", _RECORDS)
def test_what_stands_under_a_field_is_what_its_schema_says(record: dict[str, Any]) -> None:
    """Whoever reads the code and whoever reads the topic are told the same."""
    for field in record["fields"]:
        assert _told().get((record["name"], field["name"])) == field["doc"], field["name"]


def test_every_event_has_a_schema_and_every_schema_an_event() -> None:
    """The union of events is the list of what may be on a topic."""
    assert {event.__name__ for event in get_args(events.Event)} == set(_NEWEST)


def test_schema_ids_are_consecutive_and_name_each_file_once() -> None:
    """1, 2, 3, ...: an id that was published never means anything else."""
    listed = json.loads((_FOLDER / "ids.json").read_text())

    assert list(listed) == [str(number) for number in range(1, len(listed) + 1)]
    for entry in listed.values():
        assert entry["file"] == f"{entry['name']}.v{entry['version']}.avsc"
    files = [entry["file"] for entry in listed.values()]
    assert sorted(files) == sorted(path.name for path in _FOLDER.glob("*.avsc"))


def test_published_ids_never_change() -> None:
    """Append-only: what stands here was published; new ids are added below."""
    published = [(p.schema_id, p.name, p.version) for p in _PUBLISHED]

    assert published[:8] == [
        (1, "RequestAccepted", 1),
        (2, "RequestAdmitted", 1),
        (3, "RequestFinished", 1),
        (4, "AttemptAdjusted", 1),
        (5, "UsageRecorded", 1),
        (6, "TableSnapshot", 1),
        (7, "AuditRecorded", 1),
        (8, "ConfigEntry", 1),
    ]


def test_the_versions_of_a_schema_are_consecutive() -> None:
    """1, 2, ... in the order of their ids."""
    for name in _NEWEST:
        versions = [published.version for published in _PUBLISHED if published.name == name]
        assert versions == list(range(1, len(versions) + 1))


def test_every_version_is_valid_by_the_reference_implementation() -> None:
    """Defaults included; `tallygate schemas check` says the same."""
    assert problems_of(_PUBLISHED) == []


_PAIRS = [
    pytest.param(reader, writer, id=f"{reader.name}: v{reader.version} reads v{writer.version}")
    for reader, writer in itertools.product(_PUBLISHED, repeat=2)
    if reader.name == writer.name
]


@pytest.mark.parametrize(("reader", "writer"), _PAIRS)
def test_every_version_reads_every_other(reader: Published, writer: Published) -> None:
    """FULL_TRANSITIVE: old readers read new records, new readers old ones."""
    assert _compatible(reader.schema, writer.schema)


@pytest.mark.parametrize("name", sorted(_NEWEST))
def test_the_check_refuses_a_removed_field_without_default(name: str) -> None:
    """The guard's guard: the old reader cannot do without the field."""
    schema = _NEWEST[name]
    changed = copy.deepcopy(schema)
    without_default = next(f for f in changed["fields"] if "default" not in f)
    changed["fields"].remove(without_default)

    assert not _compatible(reader=schema, writer=changed)
    assert _compatible(reader=changed, writer=schema)


@pytest.mark.parametrize("name", sorted(_NEWEST))
def test_the_check_refuses_an_added_field_without_default_and_a_changed_type(name: str) -> None:
    """And it accepts an added field that has one."""
    schema = _NEWEST[name]
    added, defaulted, retyped = (copy.deepcopy(schema) for _ in range(3))
    added["fields"].append({"name": "fresh", "type": "string"})
    defaulted["fields"].append({"name": "fresh", "type": ["null", "string"], "default": None})
    retyped["fields"][0]["type"] = "boolean"

    assert not _compatible(reader=added, writer=schema)
    assert _compatible(reader=defaulted, writer=schema)
    assert _compatible(reader=schema, writer=defaulted)
    assert not _compatible(reader=retyped, writer=schema)
