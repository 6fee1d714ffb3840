"""Tells the auditors, once a second, what ingress refused by itself. Nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from schemas.audit import RefusalTally
from schemas.events import AuditRecorded
from schemas.log_events import LogEvent
from schemas.outgoing import audit_record
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_PERIOD_S: Final = 1.0
_KEPT_WITHIN_S: Final = 10.0
_FINISH_WITHIN_S: Final = 3.0
_AT_ONCE: Final = 16
"""Seconds whose events are on their way; while Kafka is away longer, they go to the process log."""


@dataclass(slots=True)
class RefusalAudit:
    """Empties the tally; what Kafka does not take in time stands in the log of the process."""

    tally: RefusalTally
    producer: Producer
    clock: Clock
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Tell for ever."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            self._tell()

    async def finish(self) -> None:
        """Tell what is left, and wait for what is under way."""
        self._tell()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_FINISH_WITHIN_S)

    def _tell(self) -> None:
        events = self.tally.take()
        if not events:
            return
        if len(self._under_way) >= _AT_ONCE:
            _write(events)
            return
        task = asyncio.create_task(self._keep(events))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _keep(self, events: Sequence[AuditRecorded]) -> None:
        deadline_s = self.clock.monotonic_s() + _KEPT_WITHIN_S
        try:
            async with asyncio.timeout(_KEPT_WITHIN_S):
                records = [audit_record(event, "ingress") for event in events]
                await self.producer.deliver(records, deadline_s)
        except (ProduceFailed, TimeoutError) as error:
            _LOG.event(LogEvent.AUDIT_NOT_TAKEN, count=len(events), error=error)
            _write(events)


def _write(events: Sequence[AuditRecorded]) -> None:
    for event in events:
        _LOG.event(LogEvent.AUDIT_EVENT, org=event.org, audit=msgspec.json.encode(event).decode())
