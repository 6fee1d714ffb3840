"""Runs admitted requests: claim, call, close, reply, record. The offset goes last.

Whatever happens here, the request ends with one outcome: ours, or the one the reaper writes when this
process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dispatcher.attempt import Abort, AttemptResult, AttemptRun
from dispatcher.leases import LEASE_MS, Leases, Running
from dispatcher.replies import ReplyStream
from dispatcher.routing import Choice, choose
from dispatcher.settlement import Ending, Job, actual_of, outcome, terminal
from dispatcher.upstreams import Upstreams
from schemas import topics
from schemas.codec import MalformedRecord, decode_as, encode
from schemas.errors import ErrorCode
from schemas.events import Attempt, Hold, RequestAccepted, RequestAdmitted, RequestFinished
from schemas.frames import Terminal
from schemas.headers import event_headers, passed_on
from schemas.runtime.bus import Bus
from schemas.runtime.clock import Clock, random_bytes
from schemas.runtime.config import ConfigFeed
from schemas.runtime.consume.dead_letters import DeadLetters
from schemas.runtime.consume.records import Record
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.ledger.errors import LedgerUnavailable
from schemas.runtime.produce import Outgoing, Producer
from schemas.runtime.retry import retry_until
from schemas.runtime.store import StoreError, StoreUnavailable
from schemas.runtime.telemetry import Metrics

_LOG = logging.getLogger(__name__)

_ATTEMPTS_MAX = 2
_NO_EFFECT_AFTER_MS = 10 * 60 * 1000
_FOR_AS_LONG_AS_IT_TAKES_S = 3_600.0
"""What was spent must be written down; only the watchdog ends such a wait earlier."""


@dataclass(slots=True)
class Dispatching:
    """Handles batches of the dispatch topic; every request is a task of its own."""

    ledger: LedgerClient
    producer: Producer
    bus: Bus
    config: ConfigFeed
    upstreams: Upstreams
    leases: Leases
    dead_letters: DeadLetters
    metrics: Metrics
    clock: Clock
    owner: str
    slots: asyncio.Semaphore
    in_flight: dict[str, int] = field(default_factory=dict)
    """Calls under way per backend."""
    _repeats: dict[str, list[Record]] = field(default_factory=dict)
    """Request id to further copies of its record, delivered while it runs here."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def handle(self, batch: list[Record]) -> None:
        """Start a task per record; the batch counts as handled at once."""
        self.metrics.observe("tallygate_batch_records", len(batch))
        for record in batch:
            task = asyncio.create_task(self._run(record))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

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
            if self.clock.now_ms() <= request.deadline_ms + _NO_EFFECT_AFTER_MS:
                await self._claim_and_run(job, record)
        finally:
            repeats = self._repeats.pop(request.request_id)
        for copy in repeats:
            copy.finish()

    async def _claim_and_run(self, job: Job, record: Record) -> None:
        """Run the request if it is ours to run, else do what its state in the ledger asks for."""
        match await self._claim(job):
            case answers.Fence(fence=fence, attempt=number):
                async with self.slots:
                    await self._run_claimed(job, record, fence, number)
            case answers.Finished(outcome=finished):
                await self._finish_again(job, record, finished)
            case answers.Unknown():
                await self._reply_lost(job, ErrorCode.UPSTREAM_INTERRUPTED)
            case answers.Cancelled():
                await self._end_unrun(job, record, ErrorCode.REQUEST_CANCELLED, "cancelled")
            case answers.Limited() | answers.Refused() | answers.Contended():
                await self._end_unrun(job, record, ErrorCode.SERVICE_UNAVAILABLE, "failed")
            case _:
                await self._reply_lost(job, ErrorCode.DEADLINE_EXCEEDED)

    async def _claim(self, job: Job) -> answers.StartAnswer | None:
        """Ask until there is a verdict; a claim held by another process is looked at again.

        ``None`` when the ledger stayed away until the deadline.
        """
        readmit = False
        owner = f"{self.owner}/{random_bytes(6).hex()}"
        while True:
            claim = await self._until_deadline(job, self._start(job, owner, readmit=readmit))
            match claim:
                case answers.Busy(owner=holder, fence=fence, attempt=number) if holder == owner:
                    # The first try went through, only its answer was lost.
                    return answers.Fence(fence=fence, attempt=number)
                case answers.Busy(ms=wait_ms):
                    await asyncio.sleep(wait_ms / 1000 + 0.05)
                case answers.Gone() if not readmit:
                    readmit = True
                case _:
                    return claim

    def _start(self, job: Job, owner: str, *, readmit: bool) -> documents.Start:
        balances = tuple(_balance(hold) for hold in job.admitted.holds)
        request = job.request
        readmission = documents.Readmission(
            deadline_ms=request.deadline_ms, accepted_ms=request.accepted_at_ms, balances=balances
        )
        return documents.Start(
            org=request.org,
            req=request.request_id,
            owner=owner,
            lease_ms=LEASE_MS,
            second_attempt=balances,
            readmit=readmission if readmit else None,
        )

    async def _until_deadline(self, job: Job, claim: documents.Start) -> answers.StartAnswer | None:
        """The ledger's answer; ``None`` when it stayed away until the deadline."""

        async def start() -> answers.StartAnswer:
            return await self.ledger.start(claim)

        left_s = (job.request.deadline_ms - self.clock.now_ms()) / 1000
        try:
            return await retry_until(start, LedgerUnavailable, self.clock.monotonic_s() + left_s)
        except LedgerUnavailable:
            return None

    async def _run_claimed(self, job: Job, record: Record, fence: int, number: int) -> None:
        """Attempt after attempt until one ends the request, then close it."""
        request = job.request
        attempts: list[Attempt] = []
        running = Running(request.org, request.request_id, fence, Abort())
        self.leases.running[request.request_id] = running
        try:
            replies = self._replies(job, fence)
            excluded: set[str] = set()
            while True:
                choice = choose(
                    request.model,
                    self.config.snapshot,
                    excluded | self._full(),
                    random.random(),  # noqa: S311  # load spreading, no secret
                )
                if choice is None:
                    ending = Ending("failed", ErrorCode.NO_BACKEND)
                    break
                result = await self._attempt(job, choice, number, replies, running)
                attempts.append(result.attempt)
                ending = result.ending
                excluded.add(choice.backend_id)
                if not result.may_try_another or number >= _ATTEMPTS_MAX:
                    break
                if choose(request.model, self.config.snapshot, excluded, 0.0) is None:
                    break
                next_fence = await self._fail_over(job, running, result)
                if next_fence is None:
                    break
                running.fence = replies.fence = next_fence
                number += 1
            await self._close(job, record, attempts, ending, replies, running)
        finally:
            self.leases.running.pop(request.request_id, None)

    def _full(self) -> set[str]:
        """Backends that have as many calls under way as they may have."""
        backends = self.config.snapshot.backends
        return {
            name
            for name, calls in self.in_flight.items()
            if name in backends and calls >= backends[name].max_concurrency
        }

    async def _attempt(
        self, job: Job, choice: Choice, number: int, replies: ReplyStream, running: Running
    ) -> AttemptResult:
        async def note_streamed() -> bool:
            deadline_s = self.clock.monotonic_s() + LEASE_MS / 1000
            return await retry_until(
                lambda: self.leases.note_streamed(running), LedgerUnavailable, deadline_s
            )

        run = AttemptRun(
            job, choice, number, replies, self.upstreams, self.clock, note_streamed, running.abort
        )
        name = choice.backend_id
        self.in_flight[name] = self.in_flight.get(name, 0) + 1
        try:
            result = await run.run()
        finally:
            self.in_flight[name] -= 1
        attempt = result.attempt
        self.metrics.count("tallygate_attempts_total", name, attempt.status)
        duration_s = (attempt.finished_at_ms - attempt.started_at_ms) / 1000
        self.metrics.observe("tallygate_attempt_duration_seconds", duration_s, name)
        return result

    async def _fail_over(self, job: Job, running: Running, result: AttemptResult) -> int | None:
        """The fence of a second attempt, or ``None`` when it does not fit or the claim is lost."""
        document = documents.NextAttempt(
            org=job.request.org,
            req=job.request.request_id,
            fence=running.fence,
            may_have_spent=result.may_have_spent,
            second=tuple(_balance(hold) for hold in job.admitted.holds),
            estimate=actual_of(result.attempt, requests=0),
        )
        try:
            answer = await self.ledger.next_attempt(document)
        except LedgerUnavailable:
            return None
        return answer.fence if isinstance(answer, answers.Fence) else None

    async def _close(
        self,
        job: Job,
        record: Record,
        attempts: list[Attempt],
        ending: Ending,
        replies: ReplyStream,
        running: Running,
    ) -> None:
        """Book, reply, record: the real use first, then the client and the log side by side."""
        now_ms = self.clock.now_ms()
        finished = outcome(job, attempts, ending, running.fence, now_ms)
        encoded = encode(finished)
        document = documents.Finish(
            org=job.request.org,
            req=job.request.request_id,
            fence=running.fence,
            actual=_last_actual(attempts),
            actual_rates=(),
        )

        async def book() -> answers.FinishAnswer:
            return await self.ledger.finish(document, encoded)

        answer = await self._persist(book)
        if isinstance(answer, answers.Gone):
            await self._until_deadline(job, self._start(job, self.owner, readmit=True))
            answer = await self._persist(book)
        if not isinstance(answer, answers.Ok | answers.Repeated):
            _LOG.error("request %s ended elsewhere: %s", job.request.request_id, answer)
            return
        await asyncio.gather(
            self._reply(replies, terminal(job, attempts, ending, now_ms)),
            self._record(record, finished, encoded),
        )

    async def _finish_again(self, job: Job, record: Record, encoded: bytes) -> None:
        """It ran before, and perhaps nobody was told: repeat what the ledger kept."""
        await self._reply_lost(job, ErrorCode.RESULT_LOST)
        if encoded:
            await self._record(record, decode_as(encoded, RequestFinished), encoded)

    async def _end_unrun(self, job: Job, record: Record, code: ErrorCode, status: str) -> None:
        """An end without an attempt, after admission."""
        now_ms = job.admitted.admitted_at_ms
        ending = Ending(status, code)
        finished = outcome(job, [], ending, 0, now_ms)
        await asyncio.gather(
            self._reply(self._replies(job, 0), terminal(job, [], ending, now_ms)),
            self._record(record, finished, encode(finished)),
        )

    async def _reply_lost(self, job: Job, code: ErrorCode) -> None:
        """End a client's wait after frames of an earlier owner, unless it was ended already."""
        request = job.request
        try:
            last = await self.bus.last(request.request_id)
            if last is not None and isinstance(last.content, Terminal):
                return
            replies = self._replies(job, last.fence if last else 0)
            replies.seq = last.seq if last else 0
            ending = Ending("failed", code)
            await self._reply(replies, terminal(job, [], ending, self.clock.now_ms()))
        except (StoreUnavailable, StoreError) as error:
            _LOG.warning("no reply for %s: %r", request.request_id, error)

    def _replies(self, job: Job, fence: int) -> ReplyStream:
        request = job.request
        left_s = max(0, request.deadline_ms - self.clock.now_ms()) / 1000
        return ReplyStream(
            self.bus,
            request.request_id,
            request.reply_to,
            fence,
            request.keep_result,
            self.clock.monotonic_s() + left_s,
        )

    async def _reply(self, replies: ReplyStream, content: Terminal) -> None:
        try:
            await replies.send(content)
        except StoreError as error:
            _LOG.error("the bus refused a frame of %s: %s", replies.request_id, error)

    async def _record(self, record: Record, finished: RequestFinished, encoded: bytes) -> None:
        """Produce the outcome; returns when the broker has it."""
        headers = event_headers(
            "request.finished",
            finished.request_id,
            "dispatcher",
            finished.finished_at_ms,
            passed_on(record.headers),
        )
        outgoing = Outgoing(topics.OUTCOMES, finished.org.encode(), encoded, headers)
        deadline_s = self.clock.monotonic_s() + _FOR_AS_LONG_AS_IT_TAKES_S
        await self.producer.deliver([outgoing], deadline_s)

    async def _persist(
        self, work: Callable[[], Awaitable[answers.FinishAnswer]]
    ) -> answers.FinishAnswer:
        deadline_s = self.clock.monotonic_s() + _FOR_AS_LONG_AS_IT_TAKES_S
        return await retry_until(work, LedgerUnavailable, deadline_s)


def _last_actual(attempts: list[Attempt]) -> dict[documents.Unit, int | None]:
    """What the attempt that is being closed used; nothing when none ran."""
    if not attempts:
        return {"nano_usd": 0, "tokens": 0, "requests": 0}
    return dict(actual_of(attempts[-1], requests=1))


def _balance(hold: Hold) -> documents.Balance:
    return documents.Balance(
        key=hold.key,
        unit=hold.unit,  # type: ignore[arg-type]  # the schema says string, the limiter wrote a unit
        amount=hold.amount,
        limit=hold.limit,
        start_ms=hold.start_ms,
        end_ms=hold.end_ms or None,
    )
