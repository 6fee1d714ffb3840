"""The straight encoders and decoders say byte for byte and value for value what fastavro says, whatever they are given."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, events
from schemas.codec import (
    MalformedRecord,
    decode,
    decode_by_schema,
    encode,
    encode_by_schema,
    published_schemas,
)
from schemas.straight_decoding import DOUBTFUL, straight_decoder
from schemas.straight_encoding import ODD, straight_encoder
from tests.support.event_samples import SAMPLES
from tests.support.events import accepted

_BY_SCHEMA_ALONE = {"TableSnapshot"}
"""Has maps, and is written once a minute."""
_STRAIGHT = sorted({each.name for each in published_schemas()} - _BY_SCHEMA_ALONE)
_EDGES = [0, 1, 63, 64, -1, -64, -65, 8_191, 8_192, 16_383, 16_384, 2**27, 2**31, 2**62, 2**63 - 1]
_LONG = st.one_of(st.sampled_from([*_EDGES, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
_LENGTHS = st.sampled_from([0, 1, 63, 64, 8_191, 8_192, 70_000])
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.one_of(st.text(max_size=20), _LENGTHS.map(lambda length: "é" * (length // 2))),
    bytes: st.one_of(st.binary(max_size=20), _LENGTHS.map(bytes)),
    int: _LONG,
    bool: st.booleans(),
}


def _any(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a type of the events."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (plain,) = (each for each in arguments if each is not type(None))
        return st.none() | _any(plain)
    if typing.get_origin(annotation) is list:
        return st.lists(_any(arguments[0]), max_size=3)
    hints = typing.get_type_hints(annotation)
    return st.builds(annotation, **{name: _any(hint) for name, hint in hints.items()})


def _outcome(read: Callable[[bytes], events.Event], record: bytes) -> str:
    """What is read, or how it is refused; ``repr`` tells a truth value from a number."""
    try:
        return repr(read(record))
    except MalformedRecord as error:
        return f"malformed: {error}"


def _written(write: Callable[[events.Event], bytes], event: events.Event) -> bytes | str:
    """The bytes, or how it is refused: a status of the Avro type ``int`` may be too large for that."""
    try:
        return write(event)
    except Exception as error:  # noqa: BLE001 whatever it is, it is the same
        return f"{type(error)}: {error}"


@given(st.sampled_from(_STRAIGHT).flatmap(lambda name: _any(getattr(events, name))))
def test_any_event_has_the_bytes_that_fastavro_gives_it(event: events.Event) -> None:
    """Every type, every field, at the edges of its numbers and lengths; and back."""
    record = _written(encode, event)

    assert record == _written(encode_by_schema, event)
    if isinstance(record, bytes):
        assert repr(decode(record)) == repr(decode_by_schema(record)) == repr(event)


@given(
    st.sampled_from(_STRAIGHT),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4),
    st.integers(0),
    st.binary(max_size=12),
)
def test_damaged_bytes_are_read_or_refused_as_by_fastavro(
    name: str, damages: list[tuple[int, int]], cut: int, more: bytes
) -> None:
    """Cut off, changed or longer: the same event, or the same words about why it is none."""
    record = bytearray(encode(SAMPLES[name]))
    for place, byte in damages:
        record[5 + place % (len(record) - 5)] = byte
    damaged = bytes(record[: 5 + cut % (len(record) - 4)]) + more

    assert _outcome(decode, damaged) == _outcome(decode_by_schema, damaged)


@pytest.mark.parametrize(
    "changed",
    [
        {"model": None},
        {"model": b"bytes"},
        {"model": "\ud800"},
        {"model": 7},
        {"payload": None},
        {"payload": 7},
        {"deadline_ms": 2**63},
        {"deadline_ms": -(2**63) - 1},
        {"deadline_ms": 2**70},
        {"deadline_ms": None},
        {"deadline_ms": 1.5},
        {"user": 7},
        {"user": b"bytes"},
        {"reach": 7},
        {"not_before_ms": "now"},
        {"not_before_ms": True},
        {"model": "long " * 5_000},
    ],
    ids=str,
)
def test_what_is_not_as_its_schema_says_fails_as_in_fastavro(changed: dict[str, Any]) -> None:
    """Nobody writes it; if somebody did, no half of a record may stand in the log."""
    event = msgspec.structs.replace(accepted(), **changed)

    assert _written(encode, event) == _written(encode_by_schema, event)


@pytest.mark.parametrize("name", _STRAIGHT)
def test_records_of_the_newest_versions_go_the_straight_way(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without fastavro: or it would be slow again, and nobody would see it."""
    event = SAMPLES[name]
    monkeypatch.setattr(codec, "encode_by_schema", None)
    monkeypatch.setattr(codec, "decode_by_schema", None)

    assert decode(encode(event)) == event


def test_a_schema_with_what_has_no_straight_way_says_so() -> None:
    """Then fastavro has it alone; so it is with maps."""
    for field in ({"type": "map", "values": "long"}, "double", ["long", "string"]):
        schema = {"name": "Odd", "type": "record", "fields": [{"name": "odd", "type": field}]}
        with pytest.raises(NotImplementedError):
            straight_encoder(schema, b"")
        with pytest.raises(NotImplementedError):
            straight_decoder(schema, {"Odd": None})
    assert encode(SAMPLES["TableSnapshot"]) == encode_by_schema(SAMPLES["TableSnapshot"])


def test_doubts_are_no_failures_of_the_process() -> None:
    """What is fallen back from is what bytes and values can cause, and nothing wider."""
    assert not any(issubclass(each, OSError | MemoryError) for each in (*ODD, *DOUBTFUL))
