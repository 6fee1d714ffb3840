"""Retries of transient failures: in place, with growing pauses, until a deadline."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from schemas.failures import Transient

T = TypeVar("T")

_PAUSE_FIRST_S = 0.05
_PAUSE_MAX_S = 2.0


async def retry_until(
    work: Callable[[], Awaitable[T]],
    transient: type[Exception] | tuple[type[Exception], ...] = Transient,
    deadline_s: float = 0.0,
    *,
    unless: type[Exception] | tuple[type[Exception], ...] = (),
) -> T:
    """The result of ``work``, tried again on ``transient`` until the monotonic ``deadline_s``, but not on
    those of them that ``unless`` names.

    Raises the last transient error once the deadline passed, and any other error at once. Without a
    deadline there is one try.
    """
    pause_s = _PAUSE_FIRST_S
    while True:
        try:
            return await work()
        except transient as error:
            if isinstance(error, unless):
                raise
            if time.monotonic() + pause_s >= deadline_s:
                raise
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, no secret
        pause_s = min(pause_s * 2, _PAUSE_MAX_S)
