"""How accounting is put together: each partition of outcomes is booked in its order, beside the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounting.app import create_app
from accounting.settings import AccountingSettings
from schemas.ledger.shards import Shards
from schemas.runtime.process.settings import read_settings
from schemas.runtime.process.worker import Worker


@pytest.fixture
async def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Its parts; nothing connects."""
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
    return create_app(read_settings(AccountingSettings))


async def test_each_partition_is_booked_in_order_and_none_waits_for_another(worker: Worker) -> None:
    """One batch of each; a closed shard of the ledger keeps only its own partition waiting."""
    (inbox,) = worker.inboxes

    assert inbox._lanes.by_partition
    assert inbox._lanes.batches_max == 1


async def test_every_worker_meets_the_shards_of_a_store_that_it_connects_to(worker: Worker) -> None:
    """Once it knows how many there are, on this connection and on each new one."""
    await worker.ledger.learn(Shards(2))

    assert worker.ledger._meetings is not None
    assert worker.ledger._meetings.shards == Shards(2)
