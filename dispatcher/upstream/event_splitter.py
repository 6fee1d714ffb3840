"""Splits a stream of server-sent events at its blank lines, in time linear in its bytes. Pure.

As the WHATWG standard reads them (HTML, 9.2.6): lines end in LF, CR or CRLF, mixed and wherever reads cut them;
one byte order mark at the beginning is dropped. One thing differs on purpose: an event that the end of the
stream cuts short of its blank line is handed out, because a completion must not be lost for a missing line end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from schemas.failures import Poison

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of an answer that is no stream, whether one was asked for or not."""
STREAM_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of one answer. Half an hour of 150 tokens a second, at 240 bytes for each."""
EMPTY_EVENTS_MAX: Final = 20_000
"""Comments, blank lines, events that say nothing; one a second keeps a connection alive for hours."""
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class UpstreamGarbage(Poison):
    """The backend's answer is not of the OpenAI shape, or beyond all bounds. Says nothing of its text."""


@dataclass(slots=True)
class EventSplitter:
    """What has arrived of an event that is not whole, and how much came in all."""

    received_bytes: int = 0
    empty_events: int = 0
    _rest: bytearray = field(default_factory=bytearray)
    _is_after_cr: bool = False
    """The last line ended in a carriage return; a line feed that follows belongs to it."""
    _mark: bytes | None = b""
    """What has come of a byte order mark; ``None`` once the beginning is over."""

    def split(self, received: bytes) -> list[bytes]:
        """The events that are whole now, without those that carry no data; their lines end in LF.

        Raises ``UpstreamGarbage`` at the first byte beyond a bound.
        """
        self.received_bytes += len(received)
        if self.received_bytes > STREAM_BYTES_MAX:
            raise UpstreamGarbage(f"a stream of more than {STREAM_BYTES_MAX} bytes")
        if self._mark is not None:
            received = self._without_mark(self._mark + received)
        is_plain = not self._is_after_cr and b"\r" not in received
        piece = received if is_plain else self._with_line_feeds(received)
        if self._rest:
            ends = b"\n\n" in piece or (piece[:1] == b"\n" and self._rest[-1:] == b"\n")
            if not ends:
                self._keep(piece)
                return []
            piece = bytes(self._rest + piece)
            self._rest = bytearray()
        *events, rest = piece.split(b"\n\n")
        if rest:
            self._keep(rest)
        if len(piece) > EVENT_BYTES_MAX and max(map(len, events), default=0) > EVENT_BYTES_MAX:
            raise UpstreamGarbage(f"an event of more than {EVENT_BYTES_MAX} bytes")
        filled = [event for event in events if b"data:" in event]
        if len(filled) != len(events):
            self.nothing_said(len(events) - len(filled))
        return filled

    def last(self) -> bytes:
        """The event whose blank line never came; empty when there is none."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest if b"data:" in rest else b""

    def nothing_said(self, events: int = 1) -> None:
        """So many events carried nothing. Raises ``UpstreamGarbage`` when that were too many."""
        self.empty_events += events
        if self.empty_events > EMPTY_EVENTS_MAX:
            raise UpstreamGarbage(f"more than {EMPTY_EVENTS_MAX} events without data")

    def _without_mark(self, begun: bytes) -> bytes:
        if len(begun) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(begun):
            self._mark = begun
            return b""
        self._mark = None
        return begun.removeprefix(BYTE_ORDER_MARK)

    def _with_line_feeds(self, received: bytes) -> bytes:
        if not received:
            return received
        piece = received[1:] if self._is_after_cr and received[:1] == b"\n" else received
        self._is_after_cr = received.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > EVENT_BYTES_MAX:
            raise UpstreamGarbage(f"an event of more than {EVENT_BYTES_MAX} bytes")


def data_of(event: bytes) -> tuple[bytes, bytes]:
    """The data of an event, its lines joined by LF, and the event's name (``event:``); both may be empty."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip(), b""
    data, name = [], b""
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    return b"\n".join(data).strip(), name
