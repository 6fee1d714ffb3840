"""Waits for a turn: whoever gives up leaves the queue, and a turn that had come just then goes to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["came_in_time"]


async def came_in_time(
    turn: asyncio.Future[None],
    within_s: float,
    pass_on: Callable[[], object],
    leave: Callable[[], object],
) -> bool:
    """Whether the turn came within so many seconds. Where it did not, or its client is gone, one of the two is called:
    ``pass_on`` when the turn had come and nobody was there to take it, else ``leave``."""
    try:
        async with asyncio.timeout(within_s):
            await turn
    except BaseException as error:
        if turn.done() and not turn.cancelled():
            pass_on()
        else:
            leave()
        if isinstance(error, TimeoutError):
            return False
        raise
    return True
