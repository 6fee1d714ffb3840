"""Where records wait of which the ledger may have forgotten that their request ended: the log is asked.

The ledger forgets an ended request a while after its deadline. A record that is read later may be a copy,
and a second decision would contradict the first and give its idempotency key away; or it may be the
first of its request, which was long in coming. Neither is guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from limiter_worker.taken import Taken

_ASKED_AT_ONCE: Final = 8
_PAUSE_S: Final = 1.0
"""After readings that did not come to their end."""

HasEnded: TypeAlias = Callable[[str, str], Awaitable[bool | None]]
"""Whether the log has an outcome of this organization's request; ``None`` when that cannot be told now."""


@dataclass(slots=True)
class LongAgo:
    """Holds requests until the log was read for them: one that ended is dropped, ``again`` takes others."""

    has_ended: HasEnded
    drop: Callable[[Taken], None]
    again: Callable[[Taken], None]
    _waiting: list[Taken] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, taken: Taken) -> None:
        """One more that waits for the log's answer."""
        self._waiting.append(taken)
        self._arrived.set()

    async def run(self) -> None:
        """Ask for those who wait, a few at a time, for ever."""
        while True:
            await self._arrived.wait()
            if not await self.look():
                await asyncio.sleep(_PAUSE_S)

    async def look(self) -> bool:
        """Ask for the first few; whether all was told. Of whom nothing could be told waits on, behind."""
        asked, self._waiting = self._waiting[:_ASKED_AT_ONCE], self._waiting[_ASKED_AT_ONCE:]
        requests = [taken.accepted.request for taken in asked]
        told = await asyncio.gather(*(self.has_ended(r.org, r.request_id) for r in requests))
        for taken, has_ended in zip(asked, told, strict=True):
            if has_ended is None:
                self._waiting.append(taken)
            elif has_ended:
                self.drop(taken)
            else:
                self.again(msgspec.structs.replace(taken, is_first=True))
        if not self._waiting:
            self._arrived.clear()
        return None not in told

    async def forget(self, *_: Any, **__: Any) -> None:
        """The partitions were revoked: whoever owns them next reads the records again."""
        self._waiting.clear()
