"""Fixtures that tests of every tier may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.fakes.running_backend import RunningBackend, StartBackend, running_backend

# `make test` tries the same cases every time, so that it fails for a change and not by chance; new
# ones are looked for by `make test-random`. Neither judges how fast a machine is.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", _PATIENT, derandomize=True)
settings.register_profile("random", _PATIENT, max_examples=2_000, print_blob=True)
settings.load_profile("same")


@pytest.fixture
def start_backend(tmp_path: Path) -> Iterator[StartBackend]:
    """Starts fake backends by name; they end with the test."""
    with ExitStack() as running:

        def start(name: str) -> RunningBackend:
            return running.enter_context(running_backend(name, tmp_path / f"{name}.jsonl"))

        yield start
