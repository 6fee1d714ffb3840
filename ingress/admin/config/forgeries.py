"""Tells auditors of records in the configuration log that nobody who may write has signed.

Every process leaves them out; this one, which reads them too, says so. After a restart it reads them again, and the event has the same id.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import msgspec

from ingress.admin.log.audit_trail import Sender, record_audit
from schemas.config_signing import Forgery
from schemas.events import AuditRecorded
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.telemetry import Metrics

_LOOK_EVERY_S: Final = 1.0
_NOBODY: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Forgeries:
    """Those that this process has read and not told of yet."""

    config: ConfigFeed
    producer: Sender
    metrics: Metrics

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.tell()

    async def tell(self) -> None:
        """Tell of all of them."""
        while self.config.forgeries:
            forgery = self.config.forgeries.popleft()
            self.metrics.count("tallygate_forged_entries_total")
            await record_audit(self.producer, event_of(forgery))


def event_of(forgery: Forgery) -> AuditRecorded:
    """What an auditor is told; it quotes nothing of the record but its key."""
    detail = {"entity": forgery.entity, "offset": forgery.offset, "why": forgery.why}
    return AuditRecorded(
        audit_id=f"config:forged:{forgery.offset}:{forgery.at_ms}",
        org="",
        action="config.forged",
        actor=_NOBODY,
        at_ms=forgery.at_ms,
        detail=msgspec.json.encode(detail).decode(),
    )
