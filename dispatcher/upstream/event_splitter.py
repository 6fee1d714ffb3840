"""Splits a stream of server-sent events at its blank lines, in time linear in its bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from schemas.failures import Poison

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
STREAM_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of one answer. Half an hour of 150 tokens a second, at 240 bytes for each."""
EMPTY_EVENTS_MAX: Final = 20_000
"""Comments, blank lines, events that say nothing; one a second keeps a connection alive for hours."""


class UpstreamGarbage(Poison):
    """The backend's answer is not of the OpenAI shape, or beyond all bounds. Says nothing of its text."""


@dataclass(slots=True)
class EventSplitter:
    """What has arrived of an event that is not whole, and how much came in all."""

    received_bytes: int = 0
    empty_events: int = 0
    _rest: bytearray = field(default_factory=bytearray)
    _held: bytes = b""
    """A carriage return that may be the first half of a line end."""

    def split(self, received: bytes) -> list[bytes]:
        """The events that are whole now, without those that carry no data.

        Raises ``UpstreamGarbage`` at the first byte beyond a bound.
        """
        self.received_bytes += len(received)
        if self.received_bytes > STREAM_BYTES_MAX:
            raise UpstreamGarbage(f"a stream of more than {STREAM_BYTES_MAX} bytes")
        piece = self._with_line_feeds(received) if self._held or b"\r" in received else received
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

    def nothing_said(self, events: int = 1) -> None:
        """So many events carried nothing. Raises ``UpstreamGarbage`` when that were too many."""
        self.empty_events += events
        if self.empty_events > EMPTY_EVENTS_MAX:
            raise UpstreamGarbage(f"more than {EMPTY_EVENTS_MAX} events without data")

    def _with_line_feeds(self, received: bytes) -> bytes:
        piece = self._held + received
        self._held = b""
        if piece.endswith(b"\r"):
            piece, self._held = piece[:-1], b"\r"
        return piece.replace(b"\r\n", b"\n")

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > EVENT_BYTES_MAX:
            raise UpstreamGarbage(f"an event of more than {EVENT_BYTES_MAX} bytes")
