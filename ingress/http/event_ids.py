"""Event ids: what a client says to have a stream go on after the last event that it has. Pure.

An id names the request, the frame that brought the event and the event's place in it, so any ingress finds where to go
on, and a client needs nothing else. Source: WHATWG HTML, 9.2 (``id`` lines and ``Last-Event-ID``).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

__all__ = ["EventId", "numbered", "read_event_id"]

_ID: Final = re.compile(
    rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/([0-9]{1,19})-([0-9]{1,9})-([0-9]{1,9})"
)


class EventId(msgspec.Struct, frozen=True):
    """An event of a stream, as its client was told of it."""

    request_id: str
    fence: int
    seq: int
    """Of its frame."""
    place: int
    """Among the frame's events."""


def read_event_id(text: bytes) -> EventId | None:
    """The event that an id names; ``None`` for what is no id of this gateway."""
    found = _ID.fullmatch(text.strip())
    if found is None:
        return None
    fence, seq, place = map(int, found.groups()[1:])
    return EventId(found[1].decode(), fence, seq, place)


def numbered(events: bytes, frame: bytes, beyond: int = -1) -> bytes:
    """Whole events, each with its id, those up to place ``beyond`` left out; ``frame`` is ``<request>/<fence>-<seq>``."""
    if not events:
        return events
    each = events.split(b"\n\n")
    last = len(each) - 1  # Nothing follows the last blank line.
    return b"".join(
        b"%b\nid: %b-%d\n\n" % (event, frame, place)
        for place, event in enumerate(each)
        if place > beyond and (event or place < last)
    )
