"""Event ids: what a client says to have a stream go on after the last event that it has. Pure.

An id names the request, the frame that brought the event and the event's place in it, so any ingress finds where to go
on, and a client needs nothing else. Source: WHATWG HTML, 9.2 (``id`` lines and ``Last-Event-ID``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = ["EventId", "Had", "left_of", "numbered", "read_event_id"]

_ID: Final = re.compile(
    rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/([0-9]{1,19})-([0-9]{1,9})-([0-9]{1,9})"
)


_BLANK: Final = b"\n\n"


class EventId(msgspec.Struct, frozen=True):
    """An event of a stream, as its client was told of it."""

    request_id: str
    fence: int
    seq: int
    """Of its frame; 0 of what came before all frames."""
    place: int
    """Among the frame's events."""


def read_event_id(text: bytes) -> EventId | None:
    """The event that an id names; ``None`` for what is no id of this gateway."""
    found = _ID.fullmatch(text.strip())
    if found is None:
        return None
    fence, seq, place = map(int, found.groups()[1:])
    return EventId(found[1].decode(), fence, seq, place)


@dataclass(slots=True)
class Had:
    """What a client has of a stream that is told once more, frame by frame."""

    after: EventId | int | None = None
    """Its last event, or that one's number; ``None`` where it has nothing."""
    told: int = 0
    """Events that were counted so far: the number of the next one."""

    def beyond(self, seq: int | None, events: bytes) -> int:
        """The last place that it has among the events of a frame, or of the end (``None``), which has no ids; negative
        where it has none of them."""
        first, count = self.told, events.count(_BLANK)
        self.told += count
        if isinstance(self.after, int):
            return self.after - first
        if self.after is None or seq is None or seq > self.after.seq:
            return -1
        return self.after.place if seq == self.after.seq else count

    @property
    def number(self) -> int:
        """Of its last event, as far as that is known; -1 where it is not."""
        return self.after if isinstance(self.after, int) else -1


def left_of(events: bytes, beyond: int) -> bytes:
    """Whole events without those up to place ``beyond``."""
    return b"".join(event + _BLANK for event in events.split(_BLANK)[max(0, beyond + 1) : -1])


def numbered(events: bytes, frame: bytes, beyond: int = -1) -> bytes:
    """Whole events, each with its id, those up to place ``beyond`` left out; ``frame`` is ``<request>/<fence>-<seq>``."""
    if not events:
        return events
    each = events.split(_BLANK)
    last = len(each) - 1  # Nothing follows the last blank line.
    return b"".join(
        b"%b\nid: %b-%d\n\n" % (event, frame, place)
        for place, event in enumerate(each)
        if place > beyond and (event or place < last)
    )
