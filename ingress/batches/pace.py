"""How fast batches go on in one process: their lines begin in turn, no faster than clients beside them allow, and one input at a time
is checked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

__all__ = ["Pace"]


@dataclass(slots=True)
class Pace:
    """So many turns a second."""

    per_s: float
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an input is checked, which keeps all its custom ids in memory."""
    _next_s: float = 0.0

    async def turn(self) -> None:
        """Returns when it is one's turn."""
        now_s = asyncio.get_running_loop().time()
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + 1 / self.per_s
        await asyncio.sleep(turn_s - now_s)
