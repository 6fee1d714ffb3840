"""Follows one topic outside any consumer group and hands its records over, decoded."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from schemas.codec import UNDECODABLE, decode
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.free_consumer import stop_consumer
from schemas.topics import MAX_RECORD_BYTES


async def tail(
    brokers: str,
    topic: str,
    stop_after: int | None,
    emit: Callable[[dict[str, Any]], None],
    *,
    oldest: bool,
) -> int:
    """Emit records, from the oldest or from now on; the number of those that were malformed.

    Raises ``KafkaError`` when the topic or the broker is not there.
    """
    consumer = AIOKafkaConsumer(
        topic,
        **client_options(brokers),
        enable_auto_commit=False,
        auto_offset_reset="earliest" if oldest else "latest",
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    seen = malformed = 0
    try:
        await consumer.start()
        async for record in consumer:
            line = readable(record)
            malformed += "malformed" in line
            emit(line)
            seen += 1
            if seen == stop_after:
                break
    finally:
        await stop_consumer(consumer)
    return malformed


def readable(record: ConsumerRecord) -> dict[str, Any]:
    """The record as JSON: where it stands, its type, its fields; bytes as text where they are."""
    place = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": None if record.key is None else text_of(record.key),
    }
    try:
        return place | _event(record.value)
    except UNDECODABLE as error:
        raw = None if record.value is None else text_of(record.value)
        return place | {"malformed": str(error), "value": raw}


def _event(raw: bytes | None) -> dict[str, Any]:
    event = decode(raw)
    fields = msgspec.to_builtins(event, builtin_types=(bytes,))
    value = {k: _embedded(v) if isinstance(v, bytes) else v for k, v in fields.items()}
    return {"type": type(event).__name__, "value": value}


def _embedded(raw: bytes) -> dict[str, Any] | str:
    """A record inside a record, as RequestAdmitted has one, or the body of a request."""
    try:
        return _event(raw)
    except UNDECODABLE:
        return text_of(raw)


def text_of(raw: bytes) -> str:
    """The bytes as UTF-8, else as base64."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()
