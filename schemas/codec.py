"""Avro in the Confluent wire format: byte 0, 4-byte big-endian schema id, Avro body. Pure.

Ids are frozen in ``schemas/avro/ids.json``; a record of any published version decodes for ever.
Source: Confluent wire format; Avro 1.12 specification, schema resolution.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import struct
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple, TypeVar

import fastavro
import msgspec

from schemas import events
from schemas.failures import Poison, Transient
from schemas.straight_decoding import DOUBTFUL, Decoder, straight_decoder
from schemas.straight_encoding import ODD, Encoder, straight_encoder

__all__ = [
    "UNDECODABLE",
    "MalformedRecord",
    "Published",
    "UnknownSchema",
    "decode",
    "decode_as",
    "decode_by_schema",
    "decode_fields",
    "encode",
    "encode_by_schema",
    "newest_of",
    "published_in",
    "published_schemas",
    "unknown_schema",
]

_HEADER = struct.Struct(">bI")
_MAGIC = 0

E = TypeVar("E", bound=msgspec.Struct)


class MalformedRecord(Poison):
    """Bytes that are not a record of a published schema; dead-letter them, never retry."""


class UnknownSchema(Transient):
    """A record of a schema that only a newer version publishes. That one reads it, so it has to wait: never
    dead-letter it, never skip it, and never take what it may say for absent."""


UNDECODABLE = (MalformedRecord, UnknownSchema)
"""For readers that only show what they find, and say that they could not read it."""


class Published(NamedTuple):
    """One published version of a schema."""

    schema_id: int
    name: str
    version: int
    schema: dict[str, Any]


@functools.cache
def published_schemas() -> tuple[Published, ...]:
    """All schemas ever published, in the order of their ids."""
    return published_in(resources.files("schemas").joinpath("avro"))


def published_in(folder: Traversable) -> tuple[Published, ...]:
    """The schemas of a folder like ``schemas/avro``, in the order of their ids.

    Raises ``OSError``, ``ValueError``, ``KeyError`` or ``TypeError`` for a folder of another kind.
    """
    listed = json.loads(folder.joinpath("ids.json").read_text())
    return tuple(
        Published(
            schema_id=int(schema_id),
            name=entry["name"],
            version=entry["version"],
            schema=json.loads(folder.joinpath(entry["file"]).read_text()),
        )
        for schema_id, entry in sorted(listed.items(), key=lambda item: int(item[0]))
    )


class _Schemas(NamedTuple):
    writers: dict[int, tuple[str, Any]]
    """Schema id to (name, parsed schema)."""
    newest: dict[str, tuple[int, Any]]
    """Name to (id, parsed schema) of the newest version."""
    encoders: dict[str, Encoder]
    """Name to the straight encoder of the newest version, where there is one."""
    decoders: dict[int, Decoder]
    """Id of a newest version to its straight decoder, where there is one."""


@functools.cache
def _schemas() -> _Schemas:
    schemas = _Schemas({}, {}, {}, {})
    newest: dict[str, Published] = {}
    for published in published_schemas():
        parsed = fastavro.parse_schema(published.schema)
        schemas.writers[published.schema_id] = (published.name, parsed)
        schemas.newest[published.name] = (published.schema_id, parsed)
        newest[published.name] = published
    for name, (schema_id, _, _, schema) in newest.items():
        with contextlib.suppress(NotImplementedError):
            header = _HEADER.pack(_MAGIC, schema_id)
            schemas.encoders[name] = straight_encoder(schema, header)
            schemas.decoders[schema_id] = straight_decoder(schema, vars(events))
    return schemas


def newest_of(name: str) -> tuple[bytes, dict[str, Any]]:
    """How records of the newest version of a schema begin, and the schema itself."""
    schema_id, _ = _schemas().newest[name]
    schema = next(each.schema for each in published_schemas() if each.schema_id == schema_id)
    return _HEADER.pack(_MAGIC, schema_id), schema


def encode(event: events.Event) -> bytes:
    """The record's bytes under the newest version of its schema; equal events give equal bytes."""
    try:
        return _schemas().encoders[type(event).__name__](event)
    except (KeyError, *ODD):
        return encode_by_schema(event)


def encode_by_schema(event: events.Event) -> bytes:
    """What ``encode`` gives, by fastavro, which says what is wrong with an event that cannot be encoded."""
    schema_id, schema = _schemas().newest[type(event).__name__]
    out = io.BytesIO()
    out.write(_HEADER.pack(_MAGIC, schema_id))
    fastavro.schemaless_writer(out, schema, msgspec.to_builtins(event, builtin_types=(bytes,)))
    return out.getvalue()


def unknown_schema(record: bytes | None) -> UnknownSchema | None:
    """Why the record must wait for a newer version; ``None`` when this one can say what it is. Cheap.

    Ids are counted from 1, so four printable characters are no id but somebody's text.
    """
    if record is None or len(record) < _HEADER.size:
        return None
    magic, schema_id = _HEADER.unpack_from(record)
    if magic != _MAGIC or schema_id in _schemas().writers or _is_text(record[1 : _HEADER.size]):
        return None
    return UnknownSchema(f"unknown_schema: id {schema_id} is published by a newer version")


def _is_text(raw: bytes) -> bool:
    return raw.isascii() and raw.decode("ascii").isprintable()


def decode(record: bytes | None) -> events.Event:
    """The event in ``record``.

    Raises ``UnknownSchema`` when a newer version published its schema, and ``MalformedRecord`` when the
    bytes are no record at all.
    """
    if record is None or len(record) < _HEADER.size:
        return decode_by_schema(record)
    magic, schema_id = _HEADER.unpack_from(record)
    decoder = _schemas().decoders.get(schema_id)
    if decoder is None or magic != _MAGIC:
        return decode_by_schema(record)
    try:
        event: events.Event = decoder(record, _HEADER.size)[0]
    except DOUBTFUL:
        return decode_by_schema(record)
    return event


def decode_by_schema(record: bytes | None) -> events.Event:
    """What ``decode`` gives, by fastavro: for records of older versions, and for bytes that are none."""
    name, fields = decode_fields(record)
    try:
        event: events.Event = msgspec.convert(fields, getattr(events, name), builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise MalformedRecord(f"not a valid {name}: {error}") from error
    return event


def decode_fields(record: bytes | None) -> tuple[str, dict[str, Any]]:
    """The name of the event in ``record``, and its fields under the newest version of its schema; half as
    dear as the event itself, for those who read very many. Raises as ``decode``."""
    if record is None or len(record) < _HEADER.size:
        raise MalformedRecord("the record is empty or shorter than its header")
    magic, schema_id = _HEADER.unpack_from(record)
    if magic != _MAGIC:
        raise MalformedRecord(f"magic byte {magic}: not a record of ours")
    if schema_id not in _schemas().writers:
        raise unknown_schema(record) or MalformedRecord("text that begins with a zero byte")
    name, writer = _schemas().writers[schema_id]
    newest_id, newest = _schemas().newest[name]
    body = io.BytesIO(record)
    body.seek(_HEADER.size)
    try:
        reader = None if newest_id == schema_id else newest
        fields: Any = fastavro.schemaless_reader(body, writer, reader)
    except (EOFError, IndexError, ValueError, KeyError) as error:
        raise MalformedRecord(f"not a valid {name}: {error}") from error
    return name, fields


def decode_as(record: bytes | None, wanted: type[E]) -> E:
    """The event in ``record``; ``MalformedRecord`` when it is of another type."""
    event = decode(record)
    if not isinstance(event, wanted):
        raise MalformedRecord(f"a {type(event).__name__} does not belong here")
    return event
