"""Bounds what long readings take of an event loop that serves clients beside them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Pace:
    """How much all who share it may read in a second: whoever read rests until it is his due again."""

    records_per_s: float = 5_000
    """A tenth of a core or less."""
    bytes_per_s: float = 32 * 1024 * 1024
    _free_s: float = field(default=0.0)

    async def rest(self, records: int, size: int) -> None:
        """Wait for what was just read, behind those who read before."""
        now_s = asyncio.get_running_loop().time()
        due_s = records / self.records_per_s + size / self.bytes_per_s
        self._free_s = max(now_s, self._free_s) + due_s
        await asyncio.sleep(self._free_s - now_s)
