"""Every record ever written is read for ever: golden bytes of all published versions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.codec import Published, decode, encode, published_schemas
from tests.contract.make_golden import GOLDEN, golden_path, write_missing
from tests.support.event_samples import SAMPLES

_PUBLISHED = published_schemas()
_IDS = [f"{published.name}.v{published.version}" for published in _PUBLISHED]


def _as_written(published: Published) -> Any:
    """The sample without what its version could not say: later fields at their defaults."""
    return _said_by(published.schema, SAMPLES[published.name])


def _said_by(schema: Any, value: Any) -> Any:
    """What of a value a schema can say, in the records inside of it too."""
    if isinstance(schema, list) and value is not None:
        return _said_by(schema[1], value)
    if isinstance(value, list):
        return [_said_by(schema["items"], each) for each in value]
    if not isinstance(value, msgspec.Struct) or isinstance(schema, str):
        return value
    types = {field["name"]: field["type"] for field in schema["fields"]}
    said = {
        field.name: _said_by(types[field.name], getattr(value, field.name))
        if field.name in types
        else field.default
        for field in msgspec.structs.fields(type(value))
    }
    return msgspec.structs.replace(value, **said)


@pytest.mark.parametrize("published", _PUBLISHED, ids=_IDS)
def test_golden_bytes_decode_to_what_they_were(published: Published) -> None:
    """Under today's code and today's newest schema."""
    record = golden_path(published.name, published.version).read_bytes()

    assert int.from_bytes(record[1:5]) == published.schema_id
    assert decode(record) == _as_written(published)


@pytest.mark.parametrize("published", _PUBLISHED, ids=_IDS)
def test_the_newest_version_still_writes_its_golden_bytes(published: Published) -> None:
    """Re-produced records are byte-equal, across releases too."""
    newest = max(p.version for p in _PUBLISHED if p.name == published.name)
    if published.version == newest:
        golden = golden_path(published.name, published.version).read_bytes()
        assert encode(SAMPLES[published.name]) == golden


def test_every_version_has_golden_bytes_and_nothing_else_lies_there() -> None:
    """And the script that writes them has nothing left to write."""
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.bin" for name in _IDS}
    assert write_missing() == []


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_fills_every_field(name: str) -> None:
    """A field left at its default would prove nothing."""
    event = SAMPLES[name]
    defaults = [
        field.name
        for field in msgspec.structs.fields(type(event))
        if not field.required and getattr(event, field.name) == field.default
    ]

    assert defaults == []
