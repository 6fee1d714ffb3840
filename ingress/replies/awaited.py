"""What an answer is waited for, and until when. Pure."""

from __future__ import annotations

import msgspec


class Times(msgspec.Struct, frozen=True):
    """The times of a wait, in seconds of the event loop's clock."""

    opened_s: float
    produce_by_s: float
    deadline_s: float


class Awaited(msgspec.Struct, frozen=True):
    """The request that an answer is waited for."""

    org: str
    request_id: str
    deadline_ms: int
    is_stream: bool
    incarnation_ms: int | None = None
    """The ``produce_by_ms`` of what was produced for this wait; ``None`` where another's was joined."""
