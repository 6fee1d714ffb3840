"""The suite of the ledger on its model, behind the real client."""

from __future__ import annotations

import pytest

from schemas.runtime.ledger.client import LedgerClient
from tests.support.ledger_suite import LedgerSuite
from tests.support.model_store import ModelStore


class TestOnModel(LedgerSuite):
    """Without any service."""

    @pytest.fixture
    def ledger(self) -> LedgerClient:
        """A ledger that nothing was told yet."""
        return ModelStore().client()
