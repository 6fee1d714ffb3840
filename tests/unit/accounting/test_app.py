"""How accounting is put together: each partition of outcomes is booked in its order, beside the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounting.app import create_app
from accounting.settings import AccountingSettings
from schemas.runtime.process.settings import read_settings


async def test_each_partition_is_booked_in_order_and_none_waits_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch of each; a closed shard of the ledger keeps only its own partition waiting."""
    environment = {
        "KAFKA_BROKERS": "127.0.0.1:1",
        "LEDGER_URL": "redis://127.0.0.1:1",
        "BUS_URL": "redis://127.0.0.1:2",
        "DATA_DIR": str(tmp_path),
        "INSTANCE_ID": "accounting-0",
        "HTTP_PORT": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"TALLYGATE_{name}", value)
    settings = read_settings(AccountingSettings)
    (inbox,) = create_app(settings).inboxes

    assert inbox._lanes.by_partition
    assert inbox._lanes.batches_max == 1
