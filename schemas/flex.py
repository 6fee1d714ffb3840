"""Flex requests: those that wait in the log until there is room, and are admitted only then. Pure.

What makes one is the tier that it was accepted in and that it is background work; its record says so in a header,
so that it is told apart before it is decoded.
"""

from __future__ import annotations

from typing import Final

from schemas.events import RequestAccepted
from schemas.pricing.tiers import FLEX

__all__ = ["FLEX_HEADER", "is_flex"]

FLEX_HEADER: Final = ("service_tier", FLEX.encode())
"""Of the record of a flex request, and of no other."""


def is_flex(request: RequestAccepted) -> bool:
    """Whether the request waits for room. One that names the tier and is not background work was accepted by a version
    that passed it on."""
    reach = request.reach
    return request.background and reach is not None and reach.service_tier == FLEX
