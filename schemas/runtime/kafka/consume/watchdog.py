"""Ends a worker that is stuck: a hanging consumer looks alive, and only a restart reads on.

The age of the oldest unfinished record is the signal that held in every outage (faust.md 1.5); group
generation and rebalance flags are none. What has a stated cause is not stuck: a partition at its bound,
or time without a broker or a ledger.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.inbox import EXIT_STUCK, Inbox
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

_LOG = EventLog(__name__)
_PERIOD_S = 2.0


@dataclass(slots=True)
class Watchdog:
    """Watches the inboxes of one worker."""

    inboxes: Sequence[Inbox]
    stuck_after_s: float
    metrics: Metrics
    is_reachable: Callable[[], bool]
    """Whether broker and ledger answer."""
    _reachable_since_s: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        """Report the oldest unfinished record for ever; end the process when it is too old."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            stuck_s = self.look(time.monotonic())
            if stuck_s > self.stuck_after_s:
                _LOG.event(LogEvent.PROCESS_STUCK, age_s=round(stuck_s))
                os._exit(EXIT_STUCK)

    def look(self, now_s: float) -> float:
        """Report, and say for how long something is unfinished without a cause."""
        if not self.is_reachable():
            self._reachable_since_s = now_s
        oldest_s = unexplained_s = 0.0
        for inbox in self.inboxes:
            window = inbox.window
            oldest_s = max(oldest_s, window.oldest_age_s(now_s))
            unexplained_s = max(unexplained_s, window.oldest_age_s(now_s, inbox.excused))
            self.metrics.set("tallygate_paused_partitions", len(inbox.paused), inbox.topic)
        self.metrics.set("tallygate_oldest_unfinished_seconds", oldest_s)
        self.metrics.set(
            "tallygate_unfinished_records", sum(inbox.window.records for inbox in self.inboxes)
        )
        return min(unexplained_s, now_s - self._reachable_since_s)
