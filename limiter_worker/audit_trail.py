"""Keeps audit events: in Kafka, or in the log of the process when Kafka does not take them in time.

Nothing waits for it but the offsets of the records concerned, and those for a minute at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from limiter_worker.follow_ups import audit_record
from schemas.events import AuditRecorded
from schemas.runtime.clock import Clock
from schemas.runtime.produce import ProduceFailed, Producer

_LOG = logging.getLogger(__name__)

_DEADLINE_S = 60.0
"""Longer than a broker takes to come back from a restart."""


@dataclass(slots=True)
class AuditTrail:
    """Where audit events go."""

    producer: Producer
    clock: Clock
    deadline_s: float = _DEADLINE_S

    async def keep(self, events: Sequence[AuditRecorded]) -> None:
        """Returns once they are kept, in one place or the other; it never raises for it."""
        records = [audit_record(event) for event in events]
        deadline_s = self.clock.monotonic_s() + self.deadline_s
        try:
            async with asyncio.timeout(self.deadline_s):
                await self.producer.deliver(records, deadline_s)
        except (ProduceFailed, TimeoutError) as error:
            for event in events:
                _LOG.warning("audit event for the log: %s", msgspec.json.encode(event).decode())
            _LOG.warning("Kafka did not take %d audit events: %r", len(events), error)
