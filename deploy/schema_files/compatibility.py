"""Whether schemas are valid and every version of one reads every other (FULL_TRANSITIVE).

The judge is Avro's reference implementation and not the library that encodes our records, so that a
mistake of the one is not proved right by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException
from avro.io import validate
from avro.schema import RecordSchema, Schema, UnionSchema, make_avsc_object

from schemas.codec import Published


@dataclass(frozen=True)
class SchemaProblem:
    """What is wrong with one version, or with what it makes of another's records."""

    schema: str
    version: int
    written_by: int | None
    """The version whose records it cannot read; ``None`` when it is itself not valid."""
    field: str
    """Names of fields from the outermost record, such as ``holds.key``; empty for the whole."""
    text: str


def problems_of(published: Sequence[Published]) -> list[SchemaProblem]:
    """All that is wrong, in the order of the ids."""
    invalid = [problem for one in published for problem in _invalid(one)]
    if invalid:
        return invalid
    return [
        problem
        for reader, writer in itertools.product(published, repeat=2)
        if reader.name == writer.name
        for problem in _unreadable(reader, writer)
    ]


def unreadable_fields(reader: dict[str, Any], writer: dict[str, Any]) -> dict[str, str]:
    """The fields by which the reader fails on the writer's records, and why; empty when it does not."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(make_avsc_object(reader), make_avsc_object(writer))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return {}
    # The root stands beside every other place; alone it is the name of the whole record.
    places = result.locations - {"/"} or {"/"}
    why = "; ".join(sorted(result.messages))
    return {_field_names(reader, place): why for place in sorted(places)}


def _invalid(one: Published) -> Iterator[SchemaProblem]:
    try:
        schema = make_avsc_object(one.schema)
    except AvroException as error:
        yield SchemaProblem(one.name, one.version, None, "", str(error))
        return
    for field, text in _bad_defaults(schema, ""):
        yield SchemaProblem(one.name, one.version, None, field, text)


def _bad_defaults(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """The reference implementation takes any default; a reader would fail on it years later."""
    if not isinstance(schema, RecordSchema):
        return
    for field in schema.fields:
        name = f"{path}{field.name}"
        # The default of a union is one of its first branch.
        kind = field.type.schemas[0] if isinstance(field.type, UnionSchema) else field.type
        if field.has_default and not validate(kind, field.default):
            yield name, f"the default {field.default!r} is no {kind.type}"
        yield from _bad_defaults(getattr(field.type, "items", field.type), f"{name}.")


def _unreadable(reader: Published, writer: Published) -> Iterator[SchemaProblem]:
    for field, text in unreadable_fields(reader.schema, writer.schema).items():
        yield SchemaProblem(reader.name, reader.version, writer.version, field, text)


def _field_names(schema: Any, place: str) -> str:
    """A place such as ``/fields/5/type/items/fields/0/type`` by the names of its fields."""
    names = []
    parts = place.strip("/").split("/")
    for before, part in itertools.pairwise(["", *parts]):
        try:
            schema = schema[int(part) if part.isdigit() else part]
        except (KeyError, IndexError, TypeError):
            # A type that is named where it was defined: the names so far lead there.
            break
        if before == "fields":
            names.append(schema["name"])
    return ".".join(names)
