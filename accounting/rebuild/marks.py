"""Writes marks beside the reading of the outcomes that they are of: a few calls under way, and never more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from accounting.rebuild.chunks import chunks
from accounting.rebuild.fold import Mark

__all__ = ["MarkWriter"]

_MARKS_PER_CALL: Final = 1_000
_MARKS_UNDER_WAY: Final = 4


@dataclass(slots=True)
class MarkWriter:
    """Writes marks beside the reading, a few calls at a time; all of them are written when it is left."""

    write_piece: Callable[[Sequence[Mark]], Coroutine[Any, Any, None]]
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Nothing is under way."""
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        """Wait for what is under way, or give it up with the reading."""
        if kind is None:
            await self._wait(0)
        for task in self._under_way:
            task.cancel()

    async def write(self, marks: Sequence[Mark]) -> None:
        """Write them, and wait while too many calls are under way."""
        for piece in chunks(marks, _MARKS_PER_CALL):
            self._under_way.add(asyncio.create_task(self.write_piece(piece)))
        await self._wait(_MARKS_UNDER_WAY)

    async def _wait(self, most: int) -> None:
        while len(self._under_way) > most:
            done, self._under_way = await asyncio.wait(
                self._under_way, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
