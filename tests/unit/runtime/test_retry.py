"""Retries: transient failures until a deadline, anything else at once."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from schemas.runtime.process.retry import retry_until


class _Transient(Exception):
    pass


@dataclass
class _Work:
    """Fails so many times, then returns how often it was called."""

    failures: int
    error: Exception
    calls: int = 0

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return self.calls


async def test_transient_failures_are_tried_again() -> None:
    """Until one call succeeds."""
    assert await retry_until(_Work(1, _Transient()), _Transient, time.monotonic() + 5) == 2


async def test_work_is_tried_once_even_after_the_deadline() -> None:
    """And its own failure is what the caller sees."""
    work = _Work(9, _Transient("away"))

    with pytest.raises(_Transient, match="away"):
        await retry_until(work, _Transient, time.monotonic() - 1)
    assert work.calls == 1


async def test_the_deadline_is_never_passed_by_a_pause() -> None:
    """The last failure comes before it, not after."""
    deadline_s = time.monotonic() + 0.12
    work = _Work(99, _Transient())

    with pytest.raises(_Transient):
        await retry_until(work, (_Transient, KeyError), deadline_s)
    assert time.monotonic() <= deadline_s
    assert work.calls >= 2


async def test_other_failures_are_raised_at_once() -> None:
    """What is not transient is not mended by waiting."""
    work = _Work(1, ValueError("bug"))

    with pytest.raises(ValueError, match="bug"):
        await retry_until(work, _Transient, time.monotonic() + 5)
    assert work.calls == 1
