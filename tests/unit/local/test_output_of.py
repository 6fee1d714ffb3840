"""A child whose output is waited for has its time, and is gone after it."""

from __future__ import annotations

import asyncio
import sys

import pytest

from deploy.embedded.process import output_of


async def _child(code: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def test_what_a_child_prints_is_told_with_what_it_says_beside() -> None:
    """Each by itself."""
    child = await _child("import sys; print(1); print(2, file=sys.stderr)")

    assert await output_of(child, 30.0) == (b"1\n", b"2\n")
    assert child.returncode == 0


async def test_a_child_that_takes_too_long_is_killed_and_gone() -> None:
    """Nobody waits for it, and nothing of it is left."""
    child = await _child("import time; time.sleep(60)")

    with pytest.raises(TimeoutError):
        await output_of(child, 0.1)

    assert child.returncode == -9
