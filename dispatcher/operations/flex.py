"""Says in the answer of a flex request which tier served it, as OpenAI's answers do, whatever its backend calls it. Pure.

What a backend says it bills is read before.
"""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.events import RequestAccepted
from schemas.flex import is_flex
from schemas.operations import OPERATIONS

__all__ = ["events_told_flex", "says_tier", "told_flex"]

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FLEX: Final = msgspec.Raw(b'"flex"')
_DATA: Final = b"data: "
_END: Final = b"\n\n"


def says_tier(request: RequestAccepted) -> bool:
    """Whether the answer of the request is to say that it was flex."""
    return is_flex(request) and OPERATIONS[request.route].has_tiers


def told_flex(body: bytes) -> bytes:
    """A chat completion, or a chunk of one, with its tier; what is no JSON object stays as it is."""
    try:
        fields = _OBJECT.decode(body)
    except msgspec.DecodeError:
        return body
    fields["service_tier"] = _FLEX
    return msgspec.json.encode(fields)


def events_told_flex(events: bytes) -> bytes:
    """Whole events, each chunk with its tier."""
    return b"".join(map(_event, events.split(_END)[:-1]))


def _event(event: bytes) -> bytes:
    told = _DATA + told_flex(event[len(_DATA) :]) if event.startswith(_DATA) else event
    return told + _END
