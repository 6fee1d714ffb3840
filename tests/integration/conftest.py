"""Fixtures of tests on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness.ledger_server import LedgerServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerServer]:
    """One store for a module: its ledger, and its bus where it needs one."""
    running = LedgerServer(Path(tmp_path_factory.mktemp("store")) / "data")
    running.start()
    yield running
    running.kill()
