"""Each process reports which config offset it has applied, so that writers can wait for all of them."""

from __future__ import annotations

import asyncio

from schemas.ledger.keys import CONFIG_APPLIED
from schemas.reports import REPORT_EVERY_S, ConfigReport
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.reports import report
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable


async def report_config(
    config: ConfigFeed, store: Store, clock: Clock, instance_id: str, role: str
) -> None:
    """Write it under the instance, at every change and every two seconds."""
    reported = -2
    while True:
        offset = config.snapshot.offset
        try:
            line = ConfigReport(role, offset, clock.now_ms()).line()
            await report(store, CONFIG_APPLIED, instance_id, line)
            reported = offset
        except (StoreUnavailable, StoreError):
            await asyncio.sleep(REPORT_EVERY_S)
        await config.wait_for(reported + 1, REPORT_EVERY_S)
