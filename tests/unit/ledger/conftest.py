"""A ledger for each test: the model, at T0."""

from __future__ import annotations

import pytest

from tests.unit.ledger.model_scene import Ledger


@pytest.fixture
def ledger() -> Ledger:
    """A new ledger at T0."""
    return Ledger()
