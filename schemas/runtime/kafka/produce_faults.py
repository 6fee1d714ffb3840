"""Whose fault a refused batch is, and how large a record will be: what a producer decides by."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from aiokafka import errors

from schemas import topics

__all__ = ["RECORD_BYTES_MAX", "Fault", "fault_of", "size_bytes"]


class InvalidRecord(errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka ships no types
    """The broker does not accept the record, such as one without a key in a compacted topic."""

    errno = 87
    message = "INVALID_RECORD"


# The pinned aiokafka does not know this code and would call it an unknown error.
errors.kafka_errors[InvalidRecord.errno] = InvalidRecord


class Fault(Enum):
    """Who has to do what."""

    AWAY = "the broker, or the producer's place in its sequence: send again"
    RECORD = "a record of the batch: the others can be sent"
    TOPIC = "nothing can be written to the topic for now"


_OF_RECORDS: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.RecordTooLargeError,
    errors.InvalidTimestampError,
    errors.CorruptRecordException,
    InvalidRecord,
)
_OF_TOPICS: Final = (
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.InvalidTopicError,
    errors.PolicyViolationError,
    errors.UnsupportedForMessageFormatError,
)

_BATCH_OVERHEAD_BYTES: Final = 61
_RECORD_OVERHEAD_BYTES: Final = 36
_HEADER_OVERHEAD_BYTES: Final = 10
RECORD_BYTES_MAX: Final = topics.MAX_RECORD_BYTES - _BATCH_OVERHEAD_BYTES
"""A batch with one record of this size is the largest that a topic takes."""


def fault_of(error: BaseException) -> Fault:
    """Whose fault the refusal is; what is not known may go away."""
    if isinstance(error, _OF_RECORDS):
        return Fault.RECORD
    return Fault.TOPIC if isinstance(error, _OF_TOPICS) else Fault.AWAY


def size_bytes(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """What the record takes in a batch, at most."""
    size = _RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
    for name, content in headers:
        # A character of a name takes four bytes at most.
        size += _HEADER_OVERHEAD_BYTES + 4 * len(name) + len(content)
    return size
