"""How fast lines of batches begin in one process, whatever batch they are of: in turn, and no faster than clients beside them allow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

__all__ = ["Pace"]


@dataclass(slots=True)
class Pace:
    """So many turns a second."""

    per_s: float
    _next_s: float = 0.0

    async def turn(self) -> None:
        """Returns when it is one's turn."""
        now_s = asyncio.get_running_loop().time()
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + 1 / self.per_s
        await asyncio.sleep(turn_s - now_s)
