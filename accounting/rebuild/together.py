"""Takes a step for several shards side by side: what befalls one costs no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Together"]

T = TypeVar("T")


@dataclass(slots=True)
class Together:
    """Shards that go through the same steps, as far as each comes."""

    failed: dict[int, Exception] = field(default_factory=dict)
    """What kept a shard from the next step."""

    async def each(
        self, shards: Iterable[int], step: Callable[[int], Awaitable[T]]
    ) -> dict[int, T]:
        """What the step says of each shard, without those that fail at it."""
        names = list(shards)
        results = await asyncio.gather(*map(step, names), return_exceptions=True)
        said: dict[int, T] = {}
        for shard, result in zip(names, results, strict=True):
            if isinstance(result, Exception):
                self.failed[shard] = result
            elif isinstance(result, BaseException):
                raise result
            else:
                said[shard] = result
        return said
