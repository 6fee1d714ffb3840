"""The origin of a copied record: its headers say where it stood, and when it was appended there. Pure.

So a copy that is replayed counts as the record that it is a copy of, and of a copy that was interrupted it is known how far it
came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from accounting.rebuild.records import LogRecord
from schemas.headers import REPLAY_OF, REPLAY_OF_BETWEEN

__all__ = ["Origin", "Placed", "origin_in", "placed"]


class Origin(NamedTuple):
    """Where a record stood first, and when it was appended, in Unix milliseconds."""

    topic: str
    partition: int
    offset: int
    at_ms: int


class Placed(NamedTuple):
    """A record with its place, as handlers are given it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def origin_in(headers: Sequence[tuple[str, bytes]]) -> Origin | None:
    """The origin that headers name; ``None`` of a record that is no copy, or whose headers somebody else wrote."""
    said = dict(headers).get(REPLAY_OF)
    if said is None:
        return None
    try:
        topic, partition, offset, at_ms = said.decode().split(REPLAY_OF_BETWEEN)
        return Origin(topic, int(partition), int(offset), int(at_ms))
    except ValueError:
        return None


def placed(record: LogRecord, topic: str, partition: int) -> Placed:
    """The record at its origin: there, where it was read, unless it is a copy."""
    origin = origin_in(record.headers) or Origin(topic, partition, record.offset, record.timestamp)
    headers = record.headers
    return Placed(
        origin.topic,
        origin.partition,
        origin.offset,
        origin.at_ms,
        record.key,
        record.value,
        headers,
    )
