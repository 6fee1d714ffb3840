"""The garbage collector after start: seldom among what is new, never among what was imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from schemas.runtime.process.collector import calm_collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_is_there_at_start_is_not_looked_through_again() -> None:
    """It lives as long as the process."""
    calm_collector()

    assert gc.get_freeze_count() > 1_000


def test_cycles_that_come_later_are_still_found() -> None:
    """Exceptions hold their frames, and those hold what a request brought."""

    class Held:
        count = 0

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            Held.count += 1

    calm_collector()
    for _ in range(30_000):
        Held()

    assert Held.count > 10_000
