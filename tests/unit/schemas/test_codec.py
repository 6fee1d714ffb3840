"""Records decode to what was encoded, and bytes that are no record never crash a worker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import (
    MalformedRecord,
    UnknownSchema,
    decode,
    decode_as,
    encode,
    unknown_schema,
)
from schemas.events import ConfigEntry, Event, RequestAccepted
from schemas.failures import Transient
from tests.support.event_samples import SAMPLES
from tests.support.events import accepted

_NAMES = sorted(SAMPLES)


@pytest.mark.parametrize("event", [SAMPLES[name] for name in _NAMES], ids=_NAMES)
def test_a_record_decodes_to_the_event_it_was(event: Event) -> None:
    """Nothing is lost on the way, and equal events give equal bytes."""
    record = encode(event)

    assert decode(record) == event
    assert encode(decode(record)) == record


def test_a_record_starts_with_the_confluent_header() -> None:
    """Byte 0, then the schema id in four bytes, big-endian."""
    assert encode(accepted())[:5] == b"\x00\x00\x00\x00\x1b"


@given(st.builds(accepted, payload=st.binary(), user=st.none() | st.text(), stream=st.booleans()))
def test_any_payload_and_text_survives(request: RequestAccepted) -> None:
    """Bodies are opaque bytes."""
    assert decode(encode(request)) == request


@pytest.mark.parametrize(
    "record",
    [
        None,
        b"",
        b"\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\x01",
        b"\x00\x00\x00\x00\x01",
        b"\x00garbage",
        encode(accepted())[:-1],
        b'{"request_id": "1"}',
    ],
    ids=["null", "empty", "short", "magic", "no body", "text", "cut off", "JSON"],
)
def test_what_is_no_record_is_malformed(record: bytes | None) -> None:
    """One exception for all of it, so that the loop dead-letters it."""
    with pytest.raises(MalformedRecord):
        decode(record)


@pytest.mark.parametrize("read", [decode, lambda record: decode_as(record, ConfigEntry)])
def test_a_record_of_a_schema_that_is_not_published_here_has_to_wait(read: Any) -> None:
    """A newer version wrote it: it is no malformed record, and only trying later can help."""
    record = b"\x00\x00\x00\x03\xe7anything"

    assert "id 999" in str(unknown_schema(record))
    with pytest.raises(UnknownSchema):
        read(record)
    assert issubclass(UnknownSchema, Transient)
    assert not issubclass(UnknownSchema, MalformedRecord)


@pytest.mark.parametrize(
    "record",
    [None, b"", b"\x00\x00\x00\x03", b"\x01\x00\x00\x03\xe7", encode(accepted())],
    ids=["null", "empty", "short", "magic", "known"],
)
def test_everything_else_can_be_told_now(record: bytes | None) -> None:
    """A record of ours, or bytes that nobody will ever read."""
    assert unknown_schema(record) is None


@given(
    st.sampled_from(_NAMES),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0),
)
def test_a_damaged_record_is_an_event_or_malformed(
    name: str, damages: list[tuple[int, int]], cut: int
) -> None:
    """No other exception, whatever the bytes are."""
    record = bytearray(encode(SAMPLES[name]))
    for place, byte in damages:
        record[5 + place % (len(record) - 5)] = byte
    damaged = bytes(record[: 5 + cut % (len(record) - 4)])

    try:
        event = decode(damaged)
    except MalformedRecord:
        return
    assert type(event).__name__ == name


def test_a_record_of_another_type_is_malformed_where_one_type_belongs() -> None:
    """A record on the wrong topic is poison too."""
    assert decode_as(encode(accepted()), RequestAccepted) == accepted()
    with pytest.raises(MalformedRecord, match="a RequestAccepted"):
        decode_as(encode(accepted()), ConfigEntry)
