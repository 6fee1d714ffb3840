"""Carries decisions out: produces what follows, tells clients and auditors, lets the offsets go.

Each record is finished when the broker has ITS follow-up and its audit event is kept, whatever holds up
the others. The batch waits for its follow-ups too, but not longer than a round trip takes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from limiter_worker.audit_trail import AuditTrail
from limiter_worker.culprits import Culprits
from limiter_worker.decisions import Rejection
from limiter_worker.replies import ReplySender
from limiter_worker.taken import Decided
from schemas.events import RecordRef
from schemas.failures import Transient
from schemas.log_events import LogEvent
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.process.event_log import EventLog
from schemas.topics import OUTCOMES

_LOG = EventLog(__name__)

_BATCH_WAITS_S = 1.0
_UNACKNOWLEDGED_MAX_BYTES = 64 * 1024 * 1024
_RECORD_BYTES = 1_024
"""What a follow-up weighs beside its value, about."""
_PAUSE_FIRST_S = 0.05
_PAUSE_MAX_S = 2.0

_FollowUp: TypeAlias = tuple[Decided, Outgoing]


class _Sending:
    """One try of some follow-ups: each settles alone, and ``done`` when all have."""

    def __init__(self, count: int) -> None:
        self.again: list[_FollowUp] = []
        """Those to be sent again."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = count

    def settle(self) -> None:
        """One more of them has settled."""
        self._open -= 1
        if self._open == 0 and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True)
class Effects:
    """What decisions act upon."""

    producer: Producer
    replies: ReplySender
    trail: AuditTrail
    culprits: Culprits
    _delivering: set[asyncio.Task[None]] = field(default_factory=set)
    _unacknowledged_bytes: int = 0

    async def carry_out(self, decided: Sequence[Decided]) -> None:
        """Returns once the broker has every follow-up, or after a second while it has few enough to
        acknowledge; records are finished one by one."""
        follow_ups: list[_FollowUp] = []
        for each in decided:
            try:
                follow_ups.append((each, each.follow_up(self._shard(each))))
            except Exception as error:  # noqa: BLE001  # total: what cannot be encoded ends alone
                self.culprits.end(each.taken, error)
                continue
        if not follow_ups:
            return
        self._unacknowledged_bytes += sum(_weight(outgoing) for _, outgoing in follow_ups)
        sending = self._send(follow_ups)
        await asyncio.wait((sending.done,), timeout=_BATCH_WAITS_S)
        if not sending.done.done() or sending.again:
            delivering = asyncio.create_task(self._persist(sending))
            self._delivering.add(delivering)
            delivering.add_done_callback(self._delivering.discard)
        while self._unacknowledged_bytes > _UNACKNOWLEDGED_MAX_BYTES and self._delivering:
            # The broker is behind, not one partition: nothing may be decided that it cannot take.
            await asyncio.wait(self._delivering, return_when=asyncio.FIRST_COMPLETED)

    def _shard(self, decided: Decided) -> int:
        org = decided.accepted.request.org
        return self.producer.partition_for(OUTCOMES, org.encode())

    async def settled(self) -> None:
        """Returns once the broker has everything that a batch no longer waits for."""
        while self._delivering:
            await asyncio.wait(self._delivering)

    def _send(self, follow_ups: Sequence[_FollowUp]) -> _Sending:
        """Send each of them once, in order."""
        sending = _Sending(len(follow_ups))
        for each in follow_ups:
            self.producer.send(each[1]).add_done_callback(partial(self._settle, sending, each))
        return sending

    async def _persist(self, sending: _Sending) -> None:
        """Send again until each is acknowledged or refused for good."""
        pause_s = _PAUSE_FIRST_S
        await sending.done
        while sending.again:
            _LOG.event(LogEvent.FOLLOW_UPS_AGAIN, count=len(sending.again))
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            sending = self._send(sending.again)
            await sending.done

    def _settle(
        self, sending: _Sending, sent: _FollowUp, delivered: asyncio.Future[RecordRef]
    ) -> None:
        error = None if delivered.cancelled() else delivered.exception()
        if delivered.cancelled() or isinstance(error, Transient):
            sending.again.append(sent)
        else:
            self._unacknowledged_bytes -= _weight(sent[1])
            if isinstance(error, Exception):
                self.culprits.end(sent[0].taken, error)
            else:
                self._finish(sent[0])
        sending.settle()

    def _finish(self, decided: Decided) -> None:
        """The follow-up is in the log: its client is told, and the offset goes, after the audit event if there is one.

        Told before, a client could be refused what runs after all: a ledger that is rebuilt knows a refusal from the log alone.
        """
        if isinstance(decided.decision, Rejection):
            self.replies.offer(decided.accepted.request, decided.decision.terminal)
        if not self.trail.note(decided):
            decided.taken.record.finish()


def _weight(outgoing: Outgoing) -> int:
    return _RECORD_BYTES + len(outgoing.value or b"")
