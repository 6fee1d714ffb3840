"""How fast batches go on in one process: their lines begin in turn, so many a second, none while the gateway takes no requests; and one
input at a time is checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Pace"]

_LOOK_S: Final = 1.0


@dataclass(slots=True)
class Pace:
    """So many turns a second."""

    per_s: float
    is_closed: Callable[[], bool] = lambda: False
    """Whether nothing new is taken now: the ledger is full, a broker's disk is, or nothing decides."""
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an input is checked, which keeps all its custom ids in memory."""
    _next_s: float = 0.0

    async def turn(self) -> None:
        """Returns when it is one's turn."""
        while self.is_closed():  # noqa: ASYNC110  # a condition of others, which has no event
            await asyncio.sleep(_LOOK_S)
        now_s = asyncio.get_running_loop().time()
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + 1 / self.per_s
        await asyncio.sleep(turn_s - now_s)
