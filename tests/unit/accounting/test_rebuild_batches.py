"""Batches of a partition are read whole and in order, whatever becomes of the broker meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaConnectionError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from accounting.earlier import LogUnreadable
from accounting.rebuild import batches as subject
from accounting.rebuild.batches import BatchReader, batches_in, pages_of

_AT = TopicPartition("outcomes", 3)
_CONTROL = 0x20
_ATTRIBUTES = 22


def _batch(base: int, records: int, *, is_control: bool = False) -> bytes:
    """Records from that offset on, as a broker sends them."""
    made = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for number in range(records):
        made.append(number, 1_000 + number, b"acme", b"%d" % (base + number), [("a", b"b")])
    whole = bytearray(made.build())
    whole[:8] = base.to_bytes(8, "big")
    if is_control:
        whole[_ATTRIBUTES] |= _CONTROL
        whole[17:21] = _crc(bytes(whole[21:])).to_bytes(4, "big")
    return bytes(whole)


def _crc(data: bytes) -> int:
    """CRC-32C, bit by bit (RFC 3720 appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _offsets(answer: bytes, begin: int, end: int) -> list[list[int]]:
    return [[r.offset for r in page] for page in pages_of(batches_in(answer), begin, end)]


def test_records_of_a_stretch_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch begins before it, the last one ends behind it, and of one more only a part came."""
    monkeypatch.setattr(subject, "_PAGE_RECORDS", 3)
    answer = _batch(10, 4) + _batch(14, 2) + _batch(18, 4) + _batch(22, 4)[:-1]
    assert _offsets(answer, 12, 20) == [[12, 13, 14], [15, 18, 19]]
    ((record, *_),) = pages_of(batches_in(_batch(7, 1)), 0, 9)
    assert (record.offset, record.timestamp, record.key, record.value) == (7, 1_000, b"acme", b"7")
    assert list(record.headers) == [("a", b"b")]


def test_marks_of_transactions_are_no_records() -> None:
    """Nobody produced them."""
    assert _offsets(_batch(0, 1, is_control=True) + _batch(1, 1), 0, 2) == [[1]]


def test_damage_is_found() -> None:
    """By the checksum of the batch."""
    whole = _batch(0, 3)
    with pytest.raises(CorruptRecordException):
        _offsets(whole[:-3] + b"!" + whole[-2:], 0, 3)


class _Client:
    """A broker that has a partition from an offset on, and what befalls each of its answers."""

    def __init__(self, *befalls: Exception | None, begin: int = 0, end: int = 100) -> None:
        self.begin, self.end = begin, end
        self.befalls = list(befalls)
        self.asked: list[int] = []
        self.updated = 0
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 1)

    async def add_topic(self, topic: str) -> bool:
        return True

    async def force_metadata_update(self) -> bool:
        self.updated += 1
        return True

    async def send(self, node: int, request: Any) -> Any:
        ((_, ((number, offset, _),)),) = request.topics
        self.asked.append(offset)
        error = self.befalls.pop(0) if self.befalls else None
        if isinstance(error, KafkaConnectionError):
            raise error
        if error is None and offset < self.begin:
            error = OffsetOutOfRangeError()
        code = 0 if error is None else error.errno  # type: ignore[attr-defined]
        records = _batch(offset, 10) if not code and offset < self.end else b""
        return SimpleNamespace(topics=[("outcomes", [(number, code, self.end, records)])])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(subject, "_AGAIN_S", 0.001)
    monkeypatch.setattr(subject, "_SILENT_MAX_S", 0.2)


async def _read(client: _Client, begin: int, end: int) -> Sequence[int]:
    async def begin_of(_: TopicPartition) -> int:
        return client.begin

    reader = BatchReader(client, begin_of)
    return [record.offset async for page in reader.pages(_AT, begin, end) for record in page]


async def test_a_stretch_is_read_to_its_end_and_no_further() -> None:
    """Nothing is asked for behind it."""
    client = _Client()
    assert await _read(client, 5, 32) == list(range(5, 32))
    assert client.asked == [5, 15, 25]
    assert await _read(client, 7, 7) == []


async def test_the_next_batches_are_asked_for_before_those_at_hand_are_taken() -> None:
    """The broker works while records are folded."""
    client = _Client()

    async def begin_of(_: TopicPartition) -> int:
        return 0

    reader = BatchReader(client, begin_of)
    pages = reader.pages(_AT, 0, 30)
    await anext(pages)
    await anext(pages)
    assert client.asked == [0, 10, 20]
    await pages.aclose()  # type: ignore[attr-defined]


async def test_a_broker_that_moves_or_goes_away_is_asked_again() -> None:
    """The leader is asked for first."""
    client = _Client(NotLeaderForPartitionError(), None, KafkaConnectionError())
    assert await _read(client, 0, 30) == list(range(30))
    assert client.updated == 2


async def test_what_may_not_be_read_is_told_at_once() -> None:
    """It would never be."""
    with pytest.raises(TopicAuthorizationFailedError):
        await _read(_Client(TopicAuthorizationFailedError()), 0, 30)


async def test_where_retention_passed_reading_goes_on_at_the_oldest_record() -> None:
    """Nothing before that can be found by anyone."""
    assert await _read(_Client(begin=20), 0, 30) == list(range(20, 30))


async def test_a_log_that_ends_before_what_is_wanted_is_unreadable() -> None:
    """It lost its end; reading from its beginning would count twice what was read before."""
    with pytest.raises(LogUnreadable, match="ends before"):
        await _read(_Client(OffsetOutOfRangeError()), 50, 60)


async def test_a_silent_broker_is_given_up() -> None:
    """There is more to read, and none of it comes."""
    with pytest.raises(LogUnreadable, match="silent at 20"):
        await _read(_Client(end=20), 0, 30)
