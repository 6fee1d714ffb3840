"""Records what administrators do, for the auditor.

A write stands whether or not its audit record gets through. When Kafka is away the whole event goes to
the process log instead, as the workers do it, so that it can be collected from there.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import msgspec

from schemas.events import AuditRecorded, RecordRef
from schemas.log_events import LogEvent
from schemas.outgoing import Outgoing, audit_record
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_DEADLINE_S: Final = 5.0


class Sender(Protocol):
    """What takes records to Kafka."""

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        """Fails with ``ProduceFailed``, or not at all while the broker is away."""


async def record_audit(
    sender: Sender, event: AuditRecorded, deadline_s: float = _DEADLINE_S
) -> None:
    """Returns once the broker has the event, or the process log."""
    try:
        await asyncio.wait_for(sender.send(audit_record(event, "admin")), deadline_s)
    except (ProduceFailed, TimeoutError):
        _LOG.event(LogEvent.AUDIT_EVENT, org=event.org, audit=msgspec.json.encode(event).decode())
