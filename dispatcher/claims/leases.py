"""Keeps the leases of all running attempts of this process alive, in one round trip per period.

Whatever ends a request from outside goes through here: a cancellation, a lost claim, the process's stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from dispatcher.abort import Abort, DrainCap
from dispatcher.claims.claiming import readmission
from dispatcher.work import AbortReason, AdmittedRequest
from schemas.failures import Failure
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.owners import owner_of
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog
from schemas.times import FULL, Times

_LOG = EventLog(__name__)


class Running(msgspec.Struct, eq=False):
    """A request that runs here: its claim, and how to end it."""

    job: AdmittedRequest
    owner: str
    fence: int
    attempt: int
    abort: Abort
    first: documents.FirstAttempt | None = None
    """What became of attempt 1, of which a rebuilt ledger knows nothing."""
    streamed: bool = False
    claimed_after_ms: int = 0
    """How long its claim took: a wait for the ledger, or for another's lease, and not for a slot."""
    lease_ms: int = FULL.ledger.attempt_lease_ms

    def renewal(self) -> documents.Renew:
        """The heartbeat of this attempt."""
        return documents.Renew(
            org=self.job.request.org,
            req=self.job.request.request_id,
            fence=self.fence,
            lease_ms=self.lease_ms,
            streamed=self.streamed,
        )

    def attachment(self) -> documents.Attach:
        """What a ledger is told that was rebuilt while this ran."""
        return documents.Attach(
            org=self.job.request.org,
            req=self.job.request.request_id,
            owner=self.owner,
            lease_ms=self.lease_ms,
            fence=self.fence,
            attempt=self.attempt,
            streamed=self.streamed,
            first=self.first,
            readmit=readmission(self.job),
        )


@dataclass(slots=True)
class Leases:
    """The requests this process runs, by id."""

    ledger: LedgerClient
    cap: DrainCap
    instance_id: str
    times: Times = FULL
    running: dict[str, Running] = field(default_factory=dict)
    is_stopping: bool = False

    @contextmanager
    def held(self, job: AdmittedRequest, claim: answers.Fence) -> Iterator[Running]:
        """The claim is renewed inside the block; a second attempt follows one that was lost."""
        request_id = job.request.request_id
        running = Running(
            job,
            owner_of(self.instance_id, b""),
            claim.fence,
            claim.attempt,
            Abort(self.cap, "stopping" if self.is_stopping else None),
            None
            if claim.attempt == 1
            else documents.FirstAttempt(verdict="UNKNOWN", fence=claim.fence - 1),
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
        unknown = []
        for attempt, renewal, reply in zip(attempts, renewals, replies, strict=True):
            # A failover meanwhile makes the reply one about a fence that is no longer used.
            if isinstance(reply, Failure) or not self._runs(attempt, renewal.fence):
                continue
            if isinstance(reply, answers.Gone):
                unknown.append(attempt)
            _obey(attempt, reply)
        if unknown:
            await self._attach(unknown)

    async def _attach(self, unknown: list[Running]) -> None:
        """Tell a ledger that was rebuilt what runs here; whoever it does not take back is asked again."""
        attachments = [attempt.attachment() for attempt in unknown]
        replies = await self.ledger.attach_many(attachments)
        _LOG.event(LogEvent.ATTEMPTS_ATTACHED, count=len(unknown))
        for attempt, attachment, reply in zip(unknown, attachments, replies, strict=True):
            if not isinstance(reply, Failure) and self._runs(attempt, attachment.fence):
                _obey(attempt, reply)

    def _runs(self, attempt: Running, fence: int) -> bool:
        is_here = self.running.get(attempt.job.request.request_id) is attempt
        return is_here and attempt.fence == fence

    async def note_streamed(self, attempt: Running) -> bool:
        """Tell the ledger that content is about to leave; False when the claim is lost.

        One that is rebuilt is not waited for: it learns that with the attachment, and until then opens no
        second attempt of a stream.
        """
        attempt.streamed = True
        try:
            reply = await self.ledger.renew(attempt.renewal())
        except LedgerNotReady:
            return attempt.abort.reason != "stale"
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
