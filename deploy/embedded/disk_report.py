"""Says in the ledger store how much room the broker's disk has, where all processes can read it.

Only whoever runs beside the broker can know. A report that is missing or old means unknown, not full.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

from schemas.ledger.keys import BROKER_DISK
from schemas.reports import DiskReport
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.reports import report
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

PERIOD_S = 5.0
_CALL_DEADLINE_S = 2.0


async def report_disk(folder: Path, broker: str, ledger_url: str) -> None:
    """For ever: write the room on the folder's disk under the broker's host name."""
    store, clock, is_started = open_store(ledger_url), Clock(), False
    try:
        while True:
            # The store is away or full, or the disk does not answer: then nobody hears of it.
            with suppress(StoreUnavailable, StoreError, OSError, TimeoutError):
                if not is_started:
                    await store.start()
                    is_started = True
                usage = await asyncio.to_thread(shutil.disk_usage, folder)
                line = DiskReport(usage.free, usage.total, clock.now_ms()).line()
                async with asyncio.timeout(_CALL_DEADLINE_S):
                    await report(store, BROKER_DISK, broker, line)
            await asyncio.sleep(PERIOD_S)
    finally:
        await store.stop()
