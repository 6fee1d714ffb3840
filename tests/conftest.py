"""Fixtures that tests of every tier may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.fakes.running_backend import RunningBackend, StartBackend, running_backend


@pytest.fixture
def start_backend(tmp_path: Path) -> Iterator[StartBackend]:
    """Starts fake backends by name; they end with the test."""
    with ExitStack() as running:

        def start(name: str) -> RunningBackend:
            return running.enter_context(running_backend(name, tmp_path / f"{name}.jsonl"))

        yield start
