"""Closes requests: books, answers, records. The real use first, then the client and the log side by
side.

What was spent is written down however long that takes; only the watchdog ends such a wait earlier.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from dispatcher.claiming import Claiming
from dispatcher.failover import AS_LONG_AS_IT_TAKES_S, Course
from dispatcher.late_spend import Correction, correction
from dispatcher.leases import Running
from dispatcher.replies import ReplyStream
from dispatcher.settlement import (
    Ending,
    Job,
    ending_again,
    outcome,
    terminal,
    token_uses,
    without_result,
)
from schemas import topics
from schemas.codec import decode_as, encode
from schemas.errors import ERRORS, ErrorCode
from schemas.events import Attempt, AttemptAdjusted, RecordRef, RequestFinished
from schemas.failures import Defect, Failure, Poison, Transient
from schemas.frames import Terminal
from schemas.headers import event_headers, passed_on
from schemas.job_ends import encode_end, end_of
from schemas.runtime.bus import Bus
from schemas.runtime.clock import Clock
from schemas.runtime.consume.records import Record
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.ledger.errors import LedgerUnavailable
from schemas.runtime.produce import Outgoing, ProduceFailed, Producer
from schemas.runtime.record_reader import RecordUnreadable
from schemas.runtime.results import READ_WITHIN_S, Results, is_inline, referring, result_record
from schemas.runtime.retry import retry_until
from schemas.runtime.store import StoreError, StoreUnavailable
from schemas.runtime.telemetry import Metrics

_LOG = logging.getLogger(__name__)

_RESULT_WITHIN_S = 10.0
_ANSWER_UNDER_WAY_S = 1.0
"""Whoever finished a request answers it at once; only then is its answer lost."""


class Unbooked(Defect):
    """The request ended, its outcome stands in the log; the ledger refused to close it."""


@dataclass(slots=True)
class Closing:
    """Ends requests, whether they ran or not."""

    ledger: LedgerClient
    claiming: Claiming
    producer: Producer
    bus: Bus
    results: Results
    metrics: Metrics
    clock: Clock

    async def close(
        self, job: Job, record: Record, course: Course, replies: ReplyStream, running: Running
    ) -> None:
        """Book what the attempt under the running fence used, then answer and record."""
        now_ms = self.clock.now_ms()
        finished = outcome(job, course.attempts, course.ending, running.fence, now_ms)
        if not is_inline(finished.result):
            finished = await self._set_result_aside(record, finished, waits=job.request.reply_to)
        encoded = _encoded(finished)
        unbooked: Exception | None = None
        try:
            ends = encode_end(end_of(finished)) if job.request.keep_result else None
            answer = await self._finish(job, running, course, encoded, ends)
            if isinstance(answer, answers.Gone) and await self._is_claimed_again(job, running):
                answer = await self._finish(job, running, course, encoded, ends)
            if isinstance(answer, answers.Stale):
                late = correction(job, running.attempt, course.current, running.fence, now_ms)
                await self._correct(job, late, passed_on(record.headers))
                return
            if isinstance(answer, answers.Gone):
                await self._book_unheld(job, running, finished)
        except Exception as defect:  # noqa: BLE001  # total: the ledger cannot take it, but the log can
            unbooked = defect
        await asyncio.gather(
            self._reply(replies, terminal(job, course.attempts, course.ending, now_ms)),
            self._record(record, finished, encoded),
        )
        if unbooked is not None:
            raise Unbooked(repr(unbooked)) from unbooked

    async def end_unrun(self, job: Job, record: Record, code: ErrorCode, status: str) -> None:
        """An end without an attempt, after admission."""
        now_ms = job.admitted.admitted_at_ms
        ending = Ending(status, code)
        finished = outcome(job, [], ending, 0, now_ms)
        await asyncio.gather(
            self._reply(self.replies(job, 0), terminal(job, [], ending, now_ms)),
            self._record(record, finished, encode(finished)),
        )

    async def end_broken(self, job: Job, record: Record, defect: Exception) -> None:
        """The end of a request that a defect stopped: its hold returns where nothing ran, its client
        is told, its outcome recorded. Raises nothing: what still goes wrong is logged."""
        if isinstance(defect, Unbooked):
            return
        request = job.request
        cancel = documents.Cancel(
            org=request.org, req=request.request_id, deadline_ms=request.deadline_ms
        )
        steps: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: self.ledger.cancel(cancel),
            lambda: self.end_unrun(job, record, ErrorCode.INTERNAL_ERROR, "failed"),
        )
        for step in steps:
            try:
                await step()
            except Exception:  # noqa: BLE001  # total: the last resort goes to its end
                _LOG.exception("request %s: a step of its end failed", request.request_id)

    async def finish_again(self, job: Job, record: Record, kept: answers.Finished) -> None:
        """It ran before, and perhaps nobody was told: repeat what the ledger kept, or the log has."""
        await asyncio.sleep(_ANSWER_UNDER_WAY_S)
        if kept.outcome:
            finished = decode_as(kept.outcome, RequestFinished)
            await asyncio.gather(
                self._answer_again(job, finished), self._record(record, finished, kept.outcome)
            )
            return
        place = answers.outcome_place(kept.booked)
        try:
            encoded = await self.results.records.read(place, READ_WITHIN_S) if place else None
        except RecordUnreadable as error:
            _LOG.warning("the outcome of %s is not told again: %s", job.request.request_id, error)
            encoded = None
        if encoded is None:
            await self.reply_again(job, Ending("failed", ErrorCode.RESULT_LOST))
        else:
            await self._answer_again(job, decode_as(encoded, RequestFinished))

    async def _answer_again(self, job: Job, finished: RequestFinished) -> None:
        try:
            finished = await self.results.restored(finished)
        except RecordUnreadable as error:
            _LOG.warning("the result of %s is not told again: %s", finished.request_id, error)
        try:
            last = await self.bus.last(finished.request_id)
        except (StoreUnavailable, StoreError):
            last = None
        has_chunks = last is not None and last.fence == finished.fence and last.seq > 0
        ending = ending_again(finished, has_chunks=has_chunks)
        await self.reply_again(job, ending, finished.attempts)

    async def reply_again(self, job: Job, ending: Ending, attempts: Sequence[Attempt] = ()) -> None:
        """End a client's wait after frames of an earlier owner, unless it was ended already."""
        request = job.request
        try:
            last = await self.bus.last(request.request_id)
            if last is not None and isinstance(last.content, Terminal):
                return
            replies = self.replies(job, last.fence if last else 0)
            replies.seq = last.seq if last else 0
            await self._reply(replies, terminal(job, attempts, ending, self.clock.now_ms()))
        except (StoreUnavailable, StoreError) as error:
            _LOG.warning("no reply for %s: %r", request.request_id, error)

    def replies(self, job: Job, fence: int) -> ReplyStream:
        """The frames of the request under this fence."""
        request = job.request
        left_s = max(0, request.deadline_ms - self.clock.now_ms()) / 1000
        return ReplyStream(
            self.bus,
            request.request_id,
            request.reply_to,
            fence,
            request.keep_result,
            self.clock.monotonic_s() + left_s,
            request.org,
        )

    async def _set_result_aside(
        self, record: Record, finished: RequestFinished, *, waits: str | None
    ) -> RequestFinished:
        """The outcome with its result in a record of its own, which a client that waits is not kept
        waiting for; without its result when no broker takes that."""
        aside = result_record(finished, passed_on(record.headers))
        within_s = _RESULT_WITHIN_S if waits else AS_LONG_AS_IT_TAKES_S
        until_s = self.clock.monotonic_s() + within_s
        try:
            ref = await retry_until(lambda: self._kept(aside, within_s), Transient, until_s)
        except Failure as refused:
            _LOG.error("the result of %s is not kept: %r", finished.request_id, refused)
            return msgspec.structs.replace(finished, result=None)
        return referring(finished, ref)

    async def _kept(self, aside: Outgoing, within_s: float) -> RecordRef:
        try:
            async with asyncio.timeout(within_s):
                return await self.producer.send(aside)
        except TimeoutError as error:
            raise ProduceFailed(f"no acknowledgement within {within_s} s") from error

    async def _finish(
        self, job: Job, running: Running, course: Course, encoded: bytes, ends: str | None
    ) -> answers.FinishAnswer:
        document = documents.Finish(
            org=job.request.org,
            req=job.request.request_id,
            fence=running.fence,
            actual=course.actual,
            actual_rates=token_uses(job, course.attempts),
            ends=ends,
        )
        return await retry_until(
            lambda: self.ledger.finish(document, encoded), LedgerUnavailable, self._until_s()
        )

    async def _is_claimed_again(self, job: Job, running: Running) -> bool:
        """Take the request's hold again in a ledger that was rebuilt without it."""
        answer = await self.claiming.claim(job)
        if isinstance(answer, answers.Fence):
            # The frames keep the fence they began with: a client's stream knows only that one.
            running.fence = answer.fence
        return isinstance(answer, answers.Fence)

    async def _book_unheld(self, job: Job, running: Running, finished: RequestFinished) -> None:
        """The ledger knows no hold to settle: what was spent is added as a correction."""
        deltas = tuple(
            documents.Booking(key=b.key, unit=b.unit, amount=b.amount)  # type: ignore[arg-type]
            for b in finished.bookings
        )
        await self._adjust(job, f"unheld:{running.fence}", deltas)

    async def _correct(self, job: Job, late: Correction, headers: Mapping[str, bytes]) -> None:
        """Somebody else ended this attempt by its hold: book what it really used.

        The log first: what stands there can be folded into a ledger, but not the other way round.
        """
        _LOG.warning("request %s ended after %s", job.request.request_id, late.ref)
        self.metrics.count("tallygate_late_attempts_total")
        await self._produce([_adjustment(change, headers) for change in late.records])
        await self._adjust(job, late.ref, late.deltas)

    async def _adjust(
        self, job: Job, ref: str, deltas: tuple[documents.Booking, ...]
    ) -> answers.AdjustAnswer:
        document = documents.Adjust(
            org=job.request.org, req=job.request.request_id, ref=ref, deltas=deltas
        )
        return await retry_until(
            lambda: self.ledger.adjust(document), LedgerUnavailable, self._until_s()
        )

    async def _reply(self, replies: ReplyStream, content: Terminal) -> None:
        """End the client's wait, if need be without the answer; what goes wrong here is the bus's."""
        try:
            await replies.send(content)
        except Exception:  # noqa: BLE001  # total: the outcome must reach the log all the same
            _LOG.exception("no answer for %s", replies.request_id)
            with suppress(StoreError):
                await replies.send(_without_body(content))

    async def _record(self, record: Record, finished: RequestFinished, encoded: bytes) -> None:
        """Produce the outcome; returns when the broker has it. One that no broker takes loses its
        result and its long texts, never itself."""
        headers = event_headers(
            "request.finished",
            finished.request_id,
            "dispatcher",
            finished.finished_at_ms,
            passed_on(record.headers),
        )
        whole = Outgoing(topics.OUTCOMES, finished.org.encode(), encoded, headers)
        try:
            await self._produce([whole])
        except Poison as refused:
            _LOG.error("outcome of %s without its result: %r", finished.request_id, refused)
            value = encode(without_result(finished))
            await self._produce([Outgoing(whole.topic, whole.key, value, headers)])

    async def _produce(self, records: list[Outgoing]) -> None:
        await self.producer.deliver(records, self._until_s())

    def _until_s(self) -> float:
        return self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S


def _without_body(content: Terminal) -> Terminal:
    """The same end for the client, its answer lost."""
    if content.error_code:
        return msgspec.structs.replace(content, body=b"", error_message=None)
    code = ErrorCode.RESULT_LOST
    return msgspec.structs.replace(
        content, http_status=ERRORS[code].status, body=b"", error_code=code
    )


def _encoded(finished: RequestFinished) -> bytes:
    try:
        return encode(finished)
    except Exception:  # noqa: BLE001  # total: odd texts cost themselves, not the outcome
        _LOG.exception("outcome of %s without its texts", finished.request_id)
        return encode(without_result(finished))


def _adjustment(event: AttemptAdjusted, more: Mapping[str, bytes]) -> Outgoing:
    event_id = f"{event.request_id}:{event.delta.attempt}:{event.revision}"
    at_ms = event.adjusted_at_ms
    headers = event_headers("attempt.adjusted", event_id, "dispatcher", at_ms, more)
    return Outgoing(topics.OUTCOMES, event.org.encode(), encode(event), headers)
