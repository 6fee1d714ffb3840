"""Reads how a response is asked for again: whole, or as its events after a number that its client has. Pure.

Source: OpenAI's ``GET /v1/responses/{id}``, ``stream`` and ``starting_after``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ingress.apis.parsed_request import invalid
from ingress.http.refusals import Refusal

__all__ = ["NUMBER_MAX", "EventsAsked", "events_asked"]

NUMBER_MAX: Final = 2**31 - 1
"""More events than any stream can have."""
_STREAM: Final = "stream"
_AFTER: Final = "starting_after"
_TRUE: Final = "true"
_FALSE: Final = "false"


class EventsAsked(NamedTuple):
    """Events are asked for."""

    after: int | None
    """The number of the last one that the client has; ``None`` for all."""


def events_asked(query: Mapping[str, str]) -> EventsAsked | Refusal | None:
    """Which events are asked for; ``None`` where the response itself is."""
    stream, after = query.get(_STREAM, _FALSE), query.get(_AFTER)
    if stream not in (_TRUE, _FALSE):
        return invalid(_STREAM, "must be true or false")
    if after is None:
        return EventsAsked(None) if stream == _TRUE else None
    if stream == _FALSE:
        return invalid(_AFTER, "is for streams: say stream=true as well")
    is_number = after.isascii() and after.isdigit() and len(after) <= len(str(NUMBER_MAX))
    if not is_number or int(after) > NUMBER_MAX:
        return invalid(_AFTER, f"must be an integer from 0 to {NUMBER_MAX}")
    return EventsAsked(int(after))
