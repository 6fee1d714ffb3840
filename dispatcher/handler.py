"""Handles the dispatch topic: every admitted request is a task that claims, waits, calls and closes.

Whatever happens here, the request ends with one outcome: ours, or the one the reaper writes when this
process is gone. Whatever raises ends its own request within milliseconds. The offset goes last.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec

from dispatcher.attempts.failover import Failover
from dispatcher.attempts.history import AttemptHistory
from dispatcher.claims.claiming import Claiming
from dispatcher.claims.leases import Leases
from dispatcher.settlement.closing import INTERRUPTED, CloseRefused, Closing
from dispatcher.settlement.timing import tell_times
from dispatcher.settlement.unreadable import Unreadable
from dispatcher.work import AdmittedRequest
from schemas.codec import UnknownSchema, decode_as, encode
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted, RequestAdmitted
from schemas.failures import Transient
from schemas.ledger import answers
from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.dead_letters import DeadLetters
from schemas.runtime.kafka.consume.inbox import EXIT_STUCK
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request, place_of
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL

_LOG = EventLog(__name__)


@dataclass(slots=True)
class Dispatching:
    """Handles batches; their records are finished one by one, when their requests are."""

    claiming: Claiming
    failover: Failover
    closing: Closing
    leases: Leases
    unreadable: Unreadable
    dead_letters: DeadLetters
    metrics: Metrics
    clock: Clock
    is_fresh: Callable[[Record], bool]
    """Whether nobody else can have been given the record."""
    run_max_ms: int = FULL.deadline_max_ms
    """No request runs longer, however long it waited before: leases, frames and whoever looks for what is stuck go by it."""
    _repeats: dict[str, list[Record]] = field(default_factory=dict)
    """Request id to all copies of its record, delivered while it runs here."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def handle(self, batch: list[Record]) -> None:
        """Start a task per record; the batch counts as handled at once."""
        self.metrics.observe("tallygate_batch_records", len(batch))
        for record in batch:
            task = asyncio.create_task(self._run(record))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def wait_until_idle(self, deadline_s: float) -> None:
        """Return when nothing runs any more, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._tasks:
                    await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Two things get out of a task: more records that nobody can read than an accident makes, and an
        hour without ledger or broker. The records stay where they are, for a process that can."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.event(LogEvent.PROCESS_ENDS, defect=error)
            os._exit(EXIT_STUCK)

    async def _run(self, record: Record) -> None:
        try:
            job = self._bounded(_decoded(record))
        except UnknownSchema as newer:
            record.hold(str(newer))
            return
        except Exception as error:  # noqa: BLE001  # total: one record that cannot be read
            await self.unreadable.end(record, error)
            record.finish()
            return
        request_id = job.request.request_id
        if request_id in self._repeats:
            self._repeats[request_id].append(record)
            return
        self._repeats[request_id] = [record]
        try:
            await self._end(job, record)
        finally:
            repeats = self._repeats.pop(request_id)
        for copy in repeats:
            copy.finish()

    def _bounded(self, job: AdmittedRequest) -> AdmittedRequest:
        """A flex request may have hours left when it starts, and has no longer than others then."""
        request = job.request
        if request.deadline_ms - request.accepted_at_ms <= self.run_max_ms:
            return job
        run_by_ms = min(request.deadline_ms, self.clock.now_ms() + self.run_max_ms)
        bounded = msgspec.structs.replace(request, deadline_ms=run_by_ms)
        return msgspec.structs.replace(job, request=bounded, due_ms=request.deadline_ms)

    async def _end(self, job: AdmittedRequest, record: Record) -> None:
        """The total boundary around one request: whatever raises, it ends, and only it."""
        try:
            await self._claim_and_run(job, record)
        except UnknownSchema as newer:
            # What the ledger keeps of its end is for a newer version to tell.
            record.hold(str(newer))
        except Transient:
            # For an hour nobody could say how it ended: the record stays for a process that can.
            raise
        except Exception as defect:  # noqa: BLE001  # total: one request
            _LOG.event(
                LogEvent.REQUEST_DEFECT,
                **place_of(record),
                **of_request(job.request, record.headers),
                defect=defect,
            )
            if not isinstance(defect, CloseRefused):
                await self._end_broken(job, record)
            await self._set_aside(job, record, defect)

    async def _end_broken(self, job: AdmittedRequest, record: Record) -> None:
        try:
            await self.closing.end_broken(job, record)
        except Transient:
            raise
        except Exception as defect:  # noqa: BLE001  # total: the reaper is left to end it
            _LOG.event(
                LogEvent.NO_OUTCOME,
                **place_of(record),
                **of_request(job.request, record.headers),
                defect=defect,
            )

    async def _set_aside(self, job: AdmittedRequest, record: Record, defect: Exception) -> None:
        """Keep the record for whoever looks into it; its outcome stands already."""
        try:
            record.value = _encoded(job)
            await self.dead_letters.take(record, "dispatch", defect)
            self.metrics.count("tallygate_dead_letters_total", record.topic)
        except Exception as error:  # noqa: BLE001  # total: a letter that cannot be kept must not hold the record
            _LOG.event(
                LogEvent.NO_DEAD_LETTER,
                **place_of(record),
                **of_request(job.request, record.headers),
                defect=error,
            )

    async def _claim_and_run(self, job: AdmittedRequest, record: Record) -> None:
        """Run the request if it is ours to run, else do what its state in the ledger asks for."""
        asked_s = self.clock.monotonic_s()
        match await self.claiming.claim(
            job, self.closing.is_in_log, partial(self.is_fresh, record)
        ):
            case answers.Fence() as claim:
                after_ms = round((self.clock.monotonic_s() - asked_s) * 1000)
                await self._run_claimed(job, record, claim, after_ms)
            case answers.Finished() as finished:
                await self.closing.finish_again(job, record, finished)
            case answers.Unknown():
                await self.closing.answering.end_again(job, INTERRUPTED)
            case answers.Cancelled():
                await self.closing.end_unrun(job, record, ErrorCode.REQUEST_CANCELLED, "cancelled")
            case answers.Expired():
                await self.closing.end_expired(job, record)
            case answers.Gone():
                pass  # It ended so long ago that only the log knows, and nothing follows.
            case _:
                await self.closing.end_unrun(job, record, ErrorCode.SERVICE_UNAVAILABLE, "failed")

    async def _run_claimed(
        self, job: AdmittedRequest, record: Record, claim: answers.Fence, after_ms: int
    ) -> None:
        """Run it to its end. Its claim is renewed also while it waits for a slot."""
        request = job.request
        with self.leases.held(job, claim) as running:
            replies = self.closing.answering.replies(job, claim.fence)
            history = AttemptHistory.after(job, running.attempt)
            running.claimed_after_ms = after_ms
            try:
                await self.failover.run(job, running, replies, history)
            except Exception as defect:  # noqa: BLE001  # total: what became of it so far is booked
                _LOG.event(
                    LogEvent.REQUEST_DEFECT,
                    **place_of(record),
                    **of_request(request, record.headers),
                    defect=defect,
                )
            try:
                await self.closing.close(job, record, history, replies, running)
            except (Transient, CloseRefused):
                raise
            except Exception as defect:  # noqa: BLE001  # total: without what it stumbled over
                _LOG.event(
                    LogEvent.REQUEST_DEFECT,
                    **place_of(record),
                    **of_request(request, record.headers),
                    defect=defect,
                )
                history.broke(job)
                await self.closing.close(job, record, history, replies, running)
        tell_times(self.metrics, job, history, after_ms)
        await self.failover.bodies.drop(job)


def _decoded(record: Record) -> AdmittedRequest:
    """The request in a record, which holds its bytes no longer: a body is in memory once.

    Raises ``MalformedRecord``, and ``UnknownSchema`` for the request inside as well.
    """
    admitted = decode_as(record.value, RequestAdmitted)
    request = decode_as(admitted.accepted, RequestAccepted)
    record.value = None
    return AdmittedRequest(msgspec.structs.replace(admitted, accepted=b""), request, record.ref)


def _encoded(job: AdmittedRequest) -> bytes:
    """The record as it was."""
    request = msgspec.structs.replace(job.request, deadline_ms=job.deadline_ms)
    return encode(msgspec.structs.replace(job.admitted, accepted=encode(request)))
