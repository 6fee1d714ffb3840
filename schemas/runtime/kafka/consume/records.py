"""A record as handlers see it: raw bytes, headers, where it stands, and how to let its offset go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.events import RecordRef
from schemas.runtime.process.tracing import Span

_FRAME_BYTES = 256
"""What a record takes beside its bytes, about."""


def _nothing(_: Record, __: int) -> None:
    """Of a record that no inbox delivered."""


class Record:
    """One delivered record. Call ``finish`` once, after its effects are durable; it then is an offset
    and holds no bytes any more."""

    __slots__ = (
        "_headers",
        "_on_finish",
        "_on_hold",
        "_on_rest",
        "generation",
        "is_finished",
        "key",
        "offset",
        "partition",
        "size_bytes",
        "span",
        "timestamp_ms",
        "topic",
        "value",
    )

    def __init__(
        self,
        fetched: Any,
        generation: int,
        on_finish: Callable[[Record], None],
        on_hold: Callable[[Record, str], None],
        on_rest: Callable[[Record, int], None] = _nothing,
    ) -> None:
        self._on_rest = on_rest
        self._on_finish = on_finish
        self._on_hold = on_hold
        self._headers: Sequence[tuple[str, bytes]] = fetched.headers or ()
        self.is_finished = False
        self.span: Span | None = None
        """Of all that is done for it, where its request is traced."""
        self.generation = generation
        """Of the consumer group, when the record was delivered."""
        self.topic: str = fetched.topic
        self.partition: int = fetched.partition
        self.offset: int = fetched.offset
        self.timestamp_ms: int = fetched.timestamp
        self.key: bytes | None = fetched.key
        self.value: bytes | None = fetched.value
        self.size_bytes: int = _FRAME_BYTES + len(self.value or b"") + len(self.key or b"")
        """What it takes here while it is under way."""

    @property
    def headers(self) -> Mapping[str, bytes]:
        """The record's headers."""
        return dict(self._headers)

    @property
    def header_list(self) -> Sequence[tuple[str, bytes]]:
        """The same, as they were read."""
        return self._headers

    @property
    def ref(self) -> RecordRef:
        """Where the record stands."""
        return RecordRef(topic=self.topic, partition=self.partition, offset=self.offset)

    def finish(self) -> None:
        """Its effects are durable: the offset may go. A second call does nothing."""
        if self._close():
            if self.span is not None:
                self.span.end()
            self._on_finish(self)

    def hold(self, cause: str) -> None:
        """Only a newer version of this program can handle it: it stays unfinished, and its partition stands
        still here for that cause. A later ``finish`` does nothing."""
        if self._close():
            self._on_hold(self, cause)

    def rest(self, now_ms: int) -> None:
        """It waits for a time that may be far, and was looked at just now: nobody is stuck with it, and nothing lags."""
        if not self.is_finished:
            self._on_rest(self, now_ms)

    def _close(self) -> bool:
        """Let go of what it holds; False when that was done before."""
        if self.is_finished:
            return False
        self.is_finished = True
        self.key = self.value = None
        self._headers = ()
        return True
