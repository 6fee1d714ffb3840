"""Ends a worker that is stuck: a hanging consumer looks alive, and only a restart reads on.

The age of the oldest unfinished record is the signal that held in every outage (faust.md 1.5); group
generation and rebalance flags are none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence

from schemas.runtime.consume.inbox import EXIT_STUCK, Inbox
from schemas.runtime.telemetry import Metrics

_LOG = logging.getLogger(__name__)
_PERIOD_S = 2.0


async def watch(inboxes: Sequence[Inbox], stuck_after_s: float, metrics: Metrics) -> None:
    """Report the oldest unfinished record; end the process when it is older than the bound."""
    while True:
        await asyncio.sleep(_PERIOD_S)
        now_s = time.monotonic()
        oldest_s = max(inbox.window.oldest_age_s(now_s) for inbox in inboxes)
        metrics.set("tallygate_oldest_unfinished_seconds", oldest_s)
        metrics.set(
            "tallygate_unfinished_records", sum(inbox.window.unfinished for inbox in inboxes)
        )
        if oldest_s > stuck_after_s:
            _LOG.error("stuck: a record is unfinished for %.0f s; ending the process", oldest_s)
            os._exit(EXIT_STUCK)
