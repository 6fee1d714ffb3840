"""Keeps the leases of all running attempts of this process alive, in one round trip per period.

Whatever ends a request from outside goes through here: a cancellation, a lost claim, the process's stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dispatcher.abort import Abort, DrainCap
from dispatcher.work import AbortReason
from schemas.failures import Failure
from schemas.ledger import answers, documents
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog
from schemas.times import FULL, Times

_LOG = EventLog(__name__)


@dataclass(slots=True)
class Running:
    """A request that runs here: its claim, and how to end it."""

    org: str
    request_id: str
    fence: int
    attempt: int
    abort: Abort
    streamed: bool = False
    claimed_after_ms: int = 0
    """How long its claim took: a wait for the ledger, or for another's lease, and not for a slot."""
    lease_ms: int = FULL.ledger.attempt_lease_ms

    def renewal(self) -> documents.Renew:
        """The heartbeat of this attempt."""
        return documents.Renew(
            org=self.org,
            req=self.request_id,
            fence=self.fence,
            lease_ms=self.lease_ms,
            streamed=self.streamed,
        )


@dataclass(slots=True)
class Leases:
    """The requests this process runs, by id."""

    ledger: LedgerClient
    cap: DrainCap
    times: Times = FULL
    running: dict[str, Running] = field(default_factory=dict)
    is_stopping: bool = False

    @contextmanager
    def held(self, org: str, request_id: str, claim: answers.Fence) -> Iterator[Running]:
        """The claim is renewed inside the block."""
        abort = Abort(self.cap, "stopping" if self.is_stopping else None)
        running = Running(
            org,
            request_id,
            claim.fence,
            claim.attempt,
            abort,
            lease_ms=self.times.ledger.attempt_lease_ms,
        )
        self.running[request_id] = running
        try:
            yield running
        finally:
            del self.running[request_id]

    def end(self, request_id: str, reason: AbortReason) -> None:
        """End the request if it runs here."""
        if running := self.running.get(request_id):
            running.abort.end(reason)

    def end_all(self) -> None:
        """The process stops: end what runs, and what is claimed from now on."""
        self.is_stopping = True
        for running in self.running.values():
            running.abort.end("stopping")

    async def keep(self) -> None:
        """Renew every lease several times within its length, for ever."""
        while True:
            await asyncio.sleep(self.times.lease_renewal_ms / 1000)
            try:
                await self._renew()
            except Exception as defect:  # noqa: BLE001  # total: the next renewal must come
                _LOG.event(LogEvent.ROUND_DEFECT, step="renew leases", defect=defect)

    async def _renew(self) -> None:
        attempts = list(self.running.values())
        if not attempts:
            return
        renewals = [attempt.renewal() for attempt in attempts]
        replies = await self.ledger.renew_many(renewals)
        failures = [reply for reply in replies if isinstance(reply, Failure)]
        if failures:
            _LOG.event(
                LogEvent.ROUND_WAITS, step="renew leases", count=len(failures), error=failures[0]
            )
        for attempt, renewal, reply in zip(attempts, renewals, replies, strict=True):
            if isinstance(reply, Failure):
                continue
            # A failover meanwhile makes the reply one about a fence that is no longer used.
            if self.running.get(attempt.request_id) is attempt and attempt.fence == renewal.fence:
                _obey(attempt, reply)

    async def note_streamed(self, attempt: Running) -> bool:
        """Tell the ledger that content is about to leave; False when the claim is lost."""
        attempt.streamed = True
        reply = await self.ledger.renew(attempt.renewal())
        _obey(attempt, reply)
        return not isinstance(reply, answers.Stale)


def _obey(attempt: Running, reply: answers.RenewAnswer) -> None:
    match reply:
        case answers.Cancelled():
            attempt.abort.end("cancelled")
        case answers.Stale():
            attempt.abort.end("stale")
        case answers.Ok() | answers.Gone():
            return
