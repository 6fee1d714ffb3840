"""Which bodies cross the log once, and what stands for them afterwards. Pure.

The record in the requests topic is whole. Whatever follows from it, a deferral or an admission, refers to
that record and carries the event without its payload, which is never empty otherwise.
"""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.events import RequestAccepted

EMBEDDED_BYTES_MAX: Final = 64 * 1024
"""A larger payload is left behind."""
KEPT_AFTER_DEADLINE_MS: Final = 60_000
"""How long the bus keeps a body that nobody drops."""


def is_elsewhere(request: RequestAccepted) -> bool:
    """Whether the event was taken from its payload."""
    return not request.payload


def crosses_once(request: RequestAccepted) -> bool:
    """Whether the payload is too large to be copied from record to record."""
    return len(request.payload) > EMBEDDED_BYTES_MAX


def without_payload(request: RequestAccepted) -> RequestAccepted:
    """The event that refers to its first record for the payload."""
    return msgspec.structs.replace(request, payload=b"")


def with_payload(request: RequestAccepted, payload: bytes) -> RequestAccepted:
    """The whole event again."""
    return msgspec.structs.replace(request, payload=payload)
