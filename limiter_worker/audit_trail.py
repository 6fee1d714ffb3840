"""Keeps audit events: in Kafka, or in the log of the process when Kafka does not take them in time.

Refusals that repeat within a second become one event, which lists every request. Nothing waits for it
but the offsets of the records concerned, and those for little more than a minute at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from limiter_worker.decision_records import audit_of
from limiter_worker.taken import Decided
from schemas.audit import RefusalTally, Refused
from schemas.events import AuditRecorded
from schemas.failures import Failure
from schemas.log_events import LogEvent
from schemas.outgoing import audit_record
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_DEADLINE_S = 60.0
"""Longer than a broker takes to come back from a restart."""
_TOGETHER_S = 1.0


@dataclass(slots=True)
class AuditTrail:
    """Where audit events go."""

    producer: Producer
    clock: Clock
    deadline_s: float = _DEADLINE_S
    _tally: RefusalTally = field(default_factory=RefusalTally)
    _events: list[AuditRecorded] = field(default_factory=list)
    _records: list[Record] = field(default_factory=list)
    """Those to be finished once their events are kept."""
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _keeping: set[asyncio.Task[None]] = field(default_factory=set)

    def note(self, decided: Decided) -> bool:
        """Whether auditors are told of the decision; then its record is finished once they are."""
        told = audit_of(decided.accepted, decided.decision)
        if told is None:
            return False
        if isinstance(told, Refused):
            self._tally.add(told)
        else:
            self._events.append(told)
        self._records.append(decided.taken.record)
        self._arrived.set()
        return True

    async def run(self) -> None:
        """Keep what was noted, second by second, for ever."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(_TOGETHER_S)
            self.flush()

    async def settled(self) -> None:
        """Returns once all that was noted is kept; called before the process stops."""
        self.flush()
        while self._keeping:
            await asyncio.wait(self._keeping)

    def flush(self) -> None:
        """Begin to keep what was noted."""
        self._arrived.clear()
        if not self._records:
            return
        events, self._events = [*self._events, *self._tally.take()], []
        records, self._records = self._records, []
        task = asyncio.create_task(self._keep_and_finish(events, records))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep_and_finish(
        self, events: Sequence[AuditRecorded], records: Sequence[Record]
    ) -> None:
        try:
            await self.keep(events)
        finally:
            for record in records:
                record.finish()

    async def keep(self, events: Sequence[AuditRecorded]) -> None:
        """Returns once they are kept, in one place or the other; it never raises for it."""
        records = [audit_record(event, "limiter_worker") for event in events]
        deadline_s = self.clock.monotonic_s() + self.deadline_s
        try:
            async with asyncio.timeout(self.deadline_s):
                await self.producer.deliver(records, deadline_s)
        except (Failure, TimeoutError) as error:
            for event in events:
                _LOG.event(
                    LogEvent.AUDIT_EVENT, org=event.org, audit=msgspec.json.encode(event).decode()
                )
            _LOG.event(LogEvent.AUDIT_NOT_TAKEN, count=len(events), error=error)
