"""Reads the gateway's topics as a stranger would: a plain consumer, fastavro and the .avsc files.

It uses none of the gateway's code, so it also proves that the published schemas suffice.
"""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

SCHEMAS = Path(__file__).parents[3] / "schemas" / "avro"
_HEADER = struct.Struct(">bI")
SILENCE_S = 1.0
"""So long without a record means that the end of the topic was reached."""


@dataclass(frozen=True)
class LogRecord:
    """One decoded record."""

    schema: str
    key: str
    value: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def event(self) -> tuple[str | None, ...]:
        """What its headers say of it as a CloudEvent: version, type, source, and the type of its value."""
        names = ("ce_specversion", "ce_type", "ce_source", "content-type")
        return tuple(self.headers.get(name) for name in names)


class KafkaLog:
    """The topics of one cluster."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        listed = json.loads((SCHEMAS / "ids.json").read_text())
        self._schemas = {
            int(schema_id): (
                entry["name"],
                fastavro.parse_schema(json.loads((SCHEMAS / entry["file"]).read_text())),
            )
            for schema_id, entry in listed.items()
        }

    def read(
        self, topic: str, is_enough: Callable[[list[LogRecord]], bool], deadline_s: float
    ) -> list[LogRecord]:
        """The records from the beginning, read until they are enough and the topic's end is met.

        Delivery is at least once: a rebalance may produce a record again, byte for byte, and such a
        copy is left out, as every consumer does that goes by the ids. One that differs is kept.
        At the deadline it returns what there is; the caller's assertions then say what is missing.
        """
        settings = {"bootstrap.servers": self._brokers, "group.id": "e2e-reader"}
        consumer = Consumer({**settings, "enable.auto.commit": False})
        end_s = time.monotonic() + deadline_s
        records: list[LogRecord] = []
        seen: set[bytes | None] = set()
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
            while time.monotonic() < end_s:
                batch = consumer.consume(1_000, timeout=SILENCE_S)
                for message in batch:
                    if not message.error() and message.value() not in seen:
                        seen.add(message.value())
                        records.append(self._decode(message))
                if not batch and is_enough(records):
                    break
        finally:
            consumer.close()
        return records

    def _decode(self, message: Message) -> LogRecord:
        raw, key = message.value(), message.key()
        assert isinstance(raw, bytes)
        assert isinstance(key, bytes)
        magic, schema_id = _HEADER.unpack_from(raw)
        assert magic == 0, "the Confluent wire format begins with a zero byte"
        name, schema = self._schemas[schema_id]
        fields = fastavro.schemaless_reader(io.BytesIO(raw[_HEADER.size :]), schema, None)
        assert isinstance(fields, dict)
        said = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        headers = {each: (value or b"").decode() for each, value in said}
        return LogRecord(name, key.decode(), fields, headers)
