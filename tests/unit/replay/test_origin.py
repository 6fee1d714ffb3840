"""A copy counts as the record that it is a copy of, and records of several partitions are told in the order of time."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from deploy.replay.merged import Part, merged
from deploy.replay.origin import origin_in, placed
from schemas.events import RecordRef
from schemas.headers import REPLAY_ID, REPLAY_OF
from schemas.outgoing import Outgoing, copied_record
from schemas.topics import OUTCOMES, REQUESTS
from tests.support.log_in_memory import LogInMemory

OF = RecordRef(topic=OUTCOMES, partition=3, offset=41)


def _read(record: Outgoing, **at: Any) -> ConsumerRecord:
    fields: dict[str, Any] = {"topic": record.topic, "partition": 0, "offset": 7, "timestamp": 99}
    return ConsumerRecord(
        **(fields | at), timestamp_type=1, key=record.key, value=record.value, checksum=None,
        serialized_key_size=0, serialized_value_size=0, headers=tuple(record.headers),
    )  # fmt: skip


def _copy(said: list[tuple[str, bytes]], replay_id: str = "first", of: RecordRef = OF) -> Outgoing:
    return copied_record(
        "copy", b"acme", b"value", said, None, of=of, appended_at_ms=1_000, replay_id=replay_id
    )


def test_a_copy_is_placed_where_its_original_stood() -> None:
    """With its headers, key and value; a copy of a copy has one origin, and the newest replay."""
    first = _copy([("request_id", b"r1")])
    found = placed(_read(first), "copy", 0)
    second = _copy(
        list(found.headers),
        "second",
        RecordRef(topic=found.topic, partition=found.partition, offset=found.offset),
    )

    assert (found.topic, found.partition, found.offset, found.timestamp) == (OUTCOMES, 3, 41, 1_000)
    assert (found.key, found.value) == (b"acme", b"value")
    assert dict(found.headers)["request_id"] == b"r1"
    assert dict(second.headers) == dict(first.headers) | {REPLAY_ID: b"second"}


@pytest.mark.parametrize("said", [b"", b"topic@x@1@2", b"topic@1@2", b"a@1@2@3@4", b"\xff\xfe"])
def test_what_somebody_else_wrote_is_no_origin(said: bytes) -> None:
    """Anybody can write headers; such a record stands where it was read."""
    record = _read(Outgoing("copy", b"acme", b"value", [(REPLAY_OF, said)]))

    assert origin_in(record.headers) is None
    assert placed(record, "copy", 0)[:4] == ("copy", 0, 7, 99)


async def test_partitions_are_merged_by_the_time_of_append() -> None:
    """Of the same millisecond the earlier part comes first: what was returned is there for the next decision."""
    log = LogInMemory()
    for topic, times in ((OUTCOMES, [5, 20, 20]), (REQUESTS, [1, 5, 6, 20, 30])):
        for at_ms in times:
            log.append(Outgoing(topic, b"acme", b""), 2, at_ms)
    parts = [
        Part(TopicPartition(OUTCOMES, 2), 0, 3),
        Part(TopicPartition(REQUESTS, 2), 1, 5),
        Part(TopicPartition("nothing", 2), 0, 0),
    ]

    told = [record async for piece in merged(log, parts) for record in piece]

    assert [(r.timestamp, r.topic == OUTCOMES) for r in told] == [
        (5, True), (5, False), (6, False), (20, True), (20, True), (20, False), (30, False),
    ]  # fmt: skip
