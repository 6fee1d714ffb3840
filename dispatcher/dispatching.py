"""Handles the dispatch topic: every admitted request is a task that claims, calls and closes.

Whatever happens here, the request ends with one outcome: ours, or the one the reaper writes when this
process is gone. The offset goes last.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field

from dispatcher.claiming import Claiming
from dispatcher.closing import Closing
from dispatcher.failover import Course, Failover
from dispatcher.leases import Leases, Running
from dispatcher.replies import ReplyStream
from dispatcher.settlement import Ending, Job
from schemas.codec import MalformedRecord, decode_as
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted, RequestAdmitted
from schemas.runtime.clock import Clock
from schemas.runtime.consume.dead_letters import DeadLetters
from schemas.runtime.consume.records import Record
from schemas.runtime.ledger import answers
from schemas.runtime.telemetry import Metrics
from schemas.topics import NO_EFFECT_AFTER_MS

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Dispatching:
    """Handles batches; their records are finished one by one, when their requests are."""

    claiming: Claiming
    failover: Failover
    closing: Closing
    leases: Leases
    dead_letters: DeadLetters
    metrics: Metrics
    clock: Clock
    slots: asyncio.Semaphore
    """Calls that may be under way at once."""
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
        """A defect must not pass in silence: its record stays unfinished, and the watchdog sees it."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a dispatch failed: %r", error, exc_info=error)

    async def _run(self, record: Record) -> None:
        try:
            admitted = decode_as(record.value, RequestAdmitted)
            request = decode_as(admitted.accepted, RequestAccepted)
        except MalformedRecord as error:
            await self.dead_letters.take(record, "decode", error)
            self.metrics.count("tallygate_dead_letters_total", record.topic)
            record.finish()
            return
        job = Job(admitted, request, record.ref)
        if request.request_id in self._repeats:
            self._repeats[request.request_id].append(record)
            return
        self._repeats[request.request_id] = [record]
        try:
            if self.clock.now_ms() <= request.deadline_ms + NO_EFFECT_AFTER_MS:
                await self._claim_and_run(job, record)
        finally:
            repeats = self._repeats.pop(request.request_id)
        for copy in repeats:
            copy.finish()

    async def _claim_and_run(self, job: Job, record: Record) -> None:
        """Run the request if it is ours to run, else do what its state in the ledger asks for."""
        match await self.claiming.claim(job):
            case answers.Fence() as claim:
                await self._run_claimed(job, record, claim)
            case answers.Finished(outcome=finished):
                await self.closing.finish_again(job, record, finished)
            case answers.Unknown():
                await self.closing.reply_again(
                    job, Ending("failed", ErrorCode.UPSTREAM_INTERRUPTED)
                )
            case answers.Cancelled():
                await self.closing.end_unrun(job, record, ErrorCode.REQUEST_CANCELLED, "cancelled")
            case answers.Limited() | answers.Refused() | answers.Contended() | answers.Shed():
                await self.closing.end_unrun(job, record, ErrorCode.SERVICE_UNAVAILABLE, "failed")
            case _:
                await self.closing.reply_again(job, Ending("failed", ErrorCode.DEADLINE_EXCEEDED))

    async def _run_claimed(self, job: Job, record: Record, claim: answers.Fence) -> None:
        """Run it to its end. Its claim is renewed also while it waits for a slot."""
        request = job.request
        with self.leases.held(request.org, request.request_id, claim) as running:
            replies = self.closing.replies(job, claim.fence)
            course = await self._in_turn(job, running, replies)
            await self.closing.close(job, record, course, replies, running)

    async def _in_turn(self, job: Job, running: Running, replies: ReplyStream) -> Course:
        """Make the calls once there is a slot for them; the deadline bounds that wait."""
        left_s = max(0.0, (job.request.deadline_ms - self.clock.now_ms()) / 1000)
        try:
            async with asyncio.timeout(left_s):
                await self.slots.acquire()
        except TimeoutError:
            course = Course.after(job, running.attempt)
            course.ending = Ending("failed", ErrorCode.DEADLINE_EXCEEDED)
            return course
        try:
            return await self.failover.run(job, running, replies)
        finally:
            self.slots.release()
