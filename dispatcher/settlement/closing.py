"""Closes requests: books, answers, records. The ledger first, then the client and the log side by side.

Nothing is said or written of an end that contradicts the one that the ledger knows, or that it did not
confirm, however long it is away; but one that is being rebuilt learns of it from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from dispatcher.amounts import outcome, terminal, token_uses, without_result, written_off_attempt
from dispatcher.attempts.history import AttemptHistory
from dispatcher.attempts.late_spend import corrections
from dispatcher.claims.claiming import AS_LONG_AS_IT_TAKES_S, Claiming
from dispatcher.claims.leases import Running
from dispatcher.replies import ReplyStream
from dispatcher.settlement.answering import Answering
from dispatcher.settlement.recording import Recording
from dispatcher.settlement.settling import Settling, correction_of
from dispatcher.work import AdmittedRequest, Result
from schemas.codec import decode_as, encode
from schemas.errors import ErrorCode
from schemas.events import Attempt, RequestFinished
from schemas.failures import Defect, Transient
from schemas.job_ends import encode_end, end_of
from schemas.ledger import answers, documents
from schemas.ledger.states import RAN, UNBEGUN
from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.outcome_lookup import OutcomeLookup, Unproved
from schemas.runtime.kafka.record_reader import RecordGone, RecordUnreadable
from schemas.runtime.kafka.results import READ_WITHIN_S, is_inline
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.process.retry import retry_until
from schemas.runtime.process.telemetry import Metrics
from schemas.written_off import WRITTEN_OFF

_LOG = EventLog(__name__)

_ANSWER_UNDER_WAY_S: Final = 1.0
"""Whoever finished a request answers it at once; only then is its answer lost."""
INTERRUPTED: Final = Result("failed", ErrorCode.UPSTREAM_INTERRUPTED)
"""What a request is whose owner vanished, whoever writes that down."""


class CloseRefused(Defect):
    """The request ended, its outcome stands in the log; the ledger refused to close it."""


class NotSure(Transient):
    """Whether the log has the outcome cannot be said now."""


@dataclass(slots=True)
class Closing:
    """Ends requests, whether they ran or not."""

    claiming: Claiming
    answering: Answering
    recording: Recording
    settling: Settling
    lookup: OutcomeLookup
    metrics: Metrics
    clock: Clock

    async def close(
        self,
        job: AdmittedRequest,
        record: Record,
        history: AttemptHistory,
        replies: ReplyStream,
        running: Running,
    ) -> None:
        """Book what the attempt under the running fence used, then answer and record."""
        now_ms = self.clock.now_ms()
        finished = outcome(job, history.attempts, history.ending, running.fence, now_ms)
        if not is_inline(finished.result):
            waits = job.request.reply_to is not None
            finished = await self.recording.set_result_aside(record, finished, waits=waits)
        encoded = _encoded(finished)
        unbooked: Exception | None = None
        answer: answers.FinishAnswer | None = None
        try:
            document = _ending(job, running, history, finished)
            answer = await self.settling.finish(running, document, encoded)
        except Transient:
            raise
        except Exception as defect:  # noqa: BLE001  # total: the ledger cannot take it, but the log can
            answer, unbooked = answers.Ok(), defect
        if isinstance(answer, answers.Stale):
            lost = await self._lost(job, running, answer)
            await self._end_late(job, record, history, replies, running, lost)
            return
        known_outcome = await self._known_outcome(job, answer)
        if known_outcome is not None and known_outcome.fence != finished.fence:
            lost = _written_off(known_outcome)
            await self._end_late(job, record, history, replies, running, lost)
            return
        if answer is None:
            finished = msgspec.structs.replace(finished, unsettled=True)
            encoded = _encoded(finished)
        content = terminal(job, history.attempts, history.ending, now_ms)
        if isinstance(answer, answers.Repeated):
            encoded = answer.outcome
        # Of what is booked nothing is kept: it stands in the log.
        sent = self.recording.send_outcome(record, finished, encoded) if encoded else None
        await self.answering.tell(replies, content)
        if sent is not None:
            await self.recording.arrived(sent)
        await replies.wait()
        if unbooked is not None:
            raise CloseRefused(repr(unbooked)) from unbooked

    async def end_unrun(
        self, job: AdmittedRequest, record: Record, code: ErrorCode, status: str
    ) -> None:
        """An end without an attempt, after admission; the ledger has it. Always the same bytes."""
        now_ms = job.admitted.admitted_at_ms
        ending = Result(status, code)
        finished = outcome(job, [], ending, 0, now_ms)
        await asyncio.gather(
            self.answering.end_again(job, ending, has_run=False),
            self.recording.outcome(record, finished, encode(finished)),
        )

    async def end_expired(self, job: AdmittedRequest, record: Record) -> None:
        """Its deadline passed before it ran. Whoever found that out records it: mostly the reaper.

        A request that the ledger had forgotten was found out here. It may have ended long ago, so the log
        is asked first.
        """
        ending = Result("expired", ErrorCode.DEADLINE_EXCEEDED)
        known = await self.claiming.look(job)
        if known.state == "REFUSED" and not known.booked and not await self.is_in_log(job):
            finished = outcome(job, [], ending, 0, job.deadline_ms)
            await self.recording.outcome(record, finished, encode(finished))
        await self.answering.end_again(job, ending, has_run=False)

    async def end_broken(self, job: AdmittedRequest, record: Record) -> None:
        """The end of a request that a defect stopped before it ran: its hold returns, its client is told,
        its outcome recorded, unless somebody else runs or has ended it."""
        # Asked first, because whoever runs it would obey a cancellation.
        known = await self.claiming.look(job)
        if known.state in UNBEGUN and isinstance(await self.claiming.withdraw(job), answers.Ok):
            await self.end_unrun(job, record, ErrorCode.INTERNAL_ERROR, "failed")
        else:
            _LOG.event(LogEvent.ENDED_ELSEWHERE, **of_request(job.request), state=known.state)

    async def finish_again(
        self, job: AdmittedRequest, record: Record, kept: answers.Finished
    ) -> None:
        """It ran before, and perhaps nobody was told: repeat what the ledger kept, or the log has."""
        await asyncio.sleep(_ANSWER_UNDER_WAY_S)
        if kept.outcome:
            finished = decode_as(kept.outcome, RequestFinished)
            await asyncio.gather(
                self.answering.repeat(job, finished),
                self.recording.outcome(record, finished, kept.outcome),
            )
        elif finished_before := await self._read_booked(job, kept.booked):
            await self.answering.repeat(job, finished_before)

    async def _end_late(
        self,
        job: AdmittedRequest,
        record: Record,
        history: AttemptHistory,
        replies: ReplyStream,
        running: Running,
        lost: Sequence[Attempt],
    ) -> None:
        """Somebody else has or had the request, and ``lost`` attempts were written off: what really was used
        here is corrected. A client that has seen frames of it gets no others."""
        _LOG.event(LogEvent.ATTEMPT_LATE, **of_request(job.request), fence=running.fence)
        self.metrics.count("tallygate_late_attempts_total")
        replies.drop()
        change = correction_of(running, history, lost)
        changes = corrections(
            job, change.booked, change.attempts, running.fence, self.clock.now_ms()
        )
        await asyncio.gather(
            self.answering.end_again(job, INTERRUPTED) if replies.seq else asyncio.sleep(0),
            self.recording.corrections(record, changes),
        )

    async def _known_outcome(
        self, job: AdmittedRequest, answer: answers.FinishAnswer | answers.Look | None
    ) -> RequestFinished | None:
        """The outcome that the ledger has of the request already, as far as it can be read."""
        if not isinstance(answer, answers.Repeated | answers.Look):
            return None
        if answer.outcome:
            return decode_as(answer.outcome, RequestFinished)
        return await self._read_booked(job, answer.booked)

    async def _lost(
        self, job: AdmittedRequest, running: Running, answer: answers.Stale
    ) -> Sequence[Attempt]:
        """The attempts that were written off, in the outcome that another made, or in the ledger so far."""
        known = await self.claiming.look(job)
        known_outcome = await self._known_outcome(job, known)
        if known_outcome is not None:
            return _written_off(known_outcome)
        numbers = (running.attempt,) if known.state in RAN else answer.written_off
        return [written_off_attempt(job, number) for number in numbers]

    async def _read_booked(self, job: AdmittedRequest, booked: str) -> RequestFinished | None:
        """The outcome that stands in the log; none when nobody can read it while its client waits."""
        place = answers.outcome_place(booked)
        if place is None:
            return None
        records = self.answering.results.records

        async def read() -> bytes | None:
            try:
                return await records.read(place, READ_WITHIN_S)
            except RecordGone:
                return None

        try:
            encoded = await retry_until(read, RecordUnreadable, self.answering.give_up_at_s(job))
        except RecordUnreadable as error:
            # Whoever asks later may find it: nothing is said that would not be true then.
            _LOG.event(LogEvent.NOT_TOLD_AGAIN, **of_request(job.request), error=error)
            return None
        if encoded is None:
            await self.answering.end_again(job, Result("failed", ErrorCode.RESULT_LOST))
            return None
        return decode_as(encoded, RequestFinished)

    async def is_in_log(self, job: AdmittedRequest) -> bool:
        """Whether the request ended before, so long ago that the ledger has forgotten it."""
        request = job.request

        async def find() -> bool:
            found = await self.lookup.find_outcome(request.org, request.request_id)
            if isinstance(found, Unproved):
                raise NotSure(request.request_id)
            return isinstance(found, RequestFinished)

        until_s = self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S
        return await retry_until(find, NotSure, until_s)


def _ending(
    job: AdmittedRequest, running: Running, history: AttemptHistory, finished: RequestFinished
) -> documents.Finish:
    return documents.Finish(
        org=job.request.org,
        req=job.request.request_id,
        fence=running.fence,
        actual=history.actual,
        actual_rates=token_uses(job, history.attempts),
        ends=encode_end(end_of(finished)) if job.request.keep_result else None,
    )


def _written_off(finished: RequestFinished) -> list[Attempt]:
    return [attempt for attempt in finished.attempts if attempt.status == WRITTEN_OFF]


def _encoded(finished: RequestFinished) -> bytes:
    try:
        return encode(finished)
    except Exception as defect:  # noqa: BLE001  # total: odd texts cost themselves, not the outcome
        _LOG.event(LogEvent.RESULT_NOT_KEPT, **of_request(finished), defect=defect)
        return encode(without_result(finished))
