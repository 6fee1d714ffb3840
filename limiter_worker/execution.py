"""Carries decisions out: produces what follows, tells clients and auditors, lets the offsets go.

A record is finished when the broker has its follow-up and its audit event is kept. The batch waits
for the follow-ups only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from limiter_worker.accepted import Accepted
from limiter_worker.audit_trail import AuditTrail
from limiter_worker.follow_ups import Decision, audit_of, follow_up
from limiter_worker.verdicts import End
from schemas.frames import Frame
from schemas.headers import passed_on
from schemas.runtime.bus import Bus
from schemas.runtime.clock import Clock
from schemas.runtime.consume.records import Record
from schemas.runtime.produce import Outgoing, Producer
from schemas.runtime.retry import retry_until
from schemas.runtime.store import StoreError, StoreUnavailable

_LOG = logging.getLogger(__name__)

_PRODUCE_DEADLINE_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Decided:
    """A request and what becomes of it."""

    record: Record
    accepted: Accepted
    decision: Decision

    def follow_up(self) -> Outgoing:
        """The record to produce."""
        return follow_up(self.accepted, self.decision, passed_on(self.record.headers))


@dataclass(slots=True)
class Execution:
    """What decisions act upon."""

    producer: Producer
    bus: Bus
    trail: AuditTrail
    clock: Clock
    _audits: set[asyncio.Task[None]] = field(default_factory=set)

    async def carry_out(self, decided: Sequence[Decided]) -> None:
        """Returns once the broker has every follow-up; records are finished then, or once their
        audit events are kept."""
        audit = self._start_audit(decided)
        replies = [
            self._reply(each.accepted, each.decision)
            for each in decided
            if isinstance(each.decision, End)
        ]
        deadline_s = self.clock.monotonic_s() + _PRODUCE_DEADLINE_S
        produced = self.producer.deliver([each.follow_up() for each in decided], deadline_s)
        await asyncio.gather(produced, *replies)
        if audit is None or audit.done():
            _finish(decided)
        else:
            audit.add_done_callback(lambda _: _finish(decided))

    def _start_audit(self, decided: Sequence[Decided]) -> asyncio.Task[None] | None:
        """Audit events go out beside the follow-ups."""
        events = [
            event
            for each in decided
            if (event := audit_of(each.accepted, each.decision)) is not None
        ]
        if not events:
            return None
        audit = asyncio.create_task(self.trail.keep(events))
        self._audits.add(audit)
        audit.add_done_callback(self._audits.discard)
        return audit

    async def _reply(self, accepted: Accepted, ending: End) -> None:
        """Tell the client; without a bus it learns from its deadline, and the outcome stands."""
        request = accepted.request
        frame = Frame(request.request_id, 0, 1, ending.terminal)
        left_s = max(0, request.deadline_ms - self.clock.now_ms()) / 1000
        deadline_s = self.clock.monotonic_s() + left_s

        async def send() -> bool:
            return await self.bus.send(frame, request.reply_to)

        try:
            await retry_until(send, StoreUnavailable, deadline_s)
        except (StoreUnavailable, StoreError) as error:
            _LOG.warning("no reply for %s: %r", request.request_id, error)


def _finish(decided: Sequence[Decided]) -> None:
    for each in decided:
        each.record.finish()
