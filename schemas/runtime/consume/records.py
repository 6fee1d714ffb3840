"""A record as handlers see it: raw bytes, headers, where it stands, and how to let its offset go."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.events import RecordRef
from schemas.runtime.consume.ack_window import AckWindow, Entry


class Record:
    """One delivered record. Call ``finish`` once, after its effects are durable."""

    __slots__ = (
        "_entry",
        "_window",
        "key",
        "offset",
        "partition",
        "timestamp_ms",
        "topic",
        "value",
    )

    def __init__(self, entry: Entry, window: AckWindow) -> None:
        message = entry.event.message
        self._entry = entry
        self._window = window
        self.topic: str = message.topic
        self.partition: int = message.partition
        self.offset: int = message.offset
        self.timestamp_ms: int = int(message.timestamp * 1000)
        self.key: bytes | None = message.key
        self.value: bytes | None = message.value

    @property
    def headers(self) -> Mapping[str, bytes]:
        """The record's headers."""
        return dict(self._entry.event.message.headers or ())

    @property
    def ref(self) -> RecordRef:
        """Where the record stands."""
        return RecordRef(topic=self.topic, partition=self.partition, offset=self.offset)

    def finish(self) -> None:
        """Its effects are durable: the offset may go."""
        self._window.finish(self._entry)
