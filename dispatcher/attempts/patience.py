"""Until when an attempt may go on: its request's deadline, its backend's bounds, and silence. Pure.

Times are the event loop's.
"""

from __future__ import annotations

import math

import msgspec

from schemas.entities import Backend

__all__ = ["Patience"]


class Patience(msgspec.Struct, frozen=True):
    """The bounds of one attempt."""

    deadline_s: float
    """The request's."""
    ends_s: float
    """When the attempt ends at the latest."""
    silence_s: float
    """How long nothing may come; a whole answer shows no progress before it is there."""

    @classmethod
    def of(cls, backend: Backend, now_s: float, left_s: float, *, streams: bool) -> Patience:
        """The bounds of a call that begins now, of a request that has so much time left."""
        total_s = backend.total_timeout_s if streams else backend.timeout_s
        deadline_s = now_s + left_s
        silence_s = backend.silence_s if streams else math.inf
        return cls(deadline_s, min(deadline_s, now_s + total_s), silence_s)

    def until_s(self, now_s: float) -> float:
        """Until when the call may go on without progress."""
        return min(self.ends_s, now_s + self.silence_s)
