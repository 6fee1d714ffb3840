"""Runs a claimed request: one attempt, and another elsewhere if the first failed before its first byte.

A slot is the process's and the backend's in one. That of the second attempt is taken before the ledger is
asked for its hold, so that a hold is never taken for a call that cannot be made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from dispatcher.amounts import actual_of, written_off_attempt
from dispatcher.attempts.attempt import AttemptResult, AttemptRun
from dispatcher.attempts.attempt_end import ABORTED
from dispatcher.attempts.dialects import Dialects
from dispatcher.attempts.excess import Excesses
from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.backends.breaker import CallEnd
from dispatcher.backends.registry import Slot
from dispatcher.backends.slots import NoSlot, SlotRequest, Slots
from dispatcher.claims.claiming import AS_LONG_AS_IT_TAKES_S, balances
from dispatcher.claims.leases import Leases, Running
from dispatcher.operations.bindings import can_run
from dispatcher.replies import ReplyStream
from dispatcher.upstream.bodies import BodySource
from dispatcher.upstream.upstreams import Upstreams
from dispatcher.work import AdmittedRequest, Result
from schemas.errors import ErrorCode
from schemas.events import Attempt
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.process.retry import retry_until
from schemas.runtime.process.telemetry import Metrics

_LOG = EventLog(__name__)

ATTEMPTS_MAX = 2
_CONFIG_WITHIN_S: Final = 5.0
_BROKEN: Final = Result("failed", ErrorCode.INTERNAL_ERROR)
"""How a request ends of which nothing better is known."""
_NO_VERDICT: Final[CallEnd] = "undecided"


class AttemptHistory(msgspec.Struct):
    """What became of a request so far."""

    attempts: list[Attempt] = msgspec.field(default_factory=list)
    current: Attempt | None = None
    """The attempt that ran under the fence that is held now."""
    ending: Result = _BROKEN
    has_lost_first: bool = False
    """Whether the first attempt was another process's, which vanished."""

    @classmethod
    def after(cls, job: AdmittedRequest, claim_attempt: int) -> AttemptHistory:
        """Where a claim begins: a second attempt follows one that was given up and booked whole."""
        if claim_attempt == 1:
            return cls()
        return cls([written_off_attempt(job, 1)], has_lost_first=True)

    def ran(self, result: AttemptResult) -> None:
        """One more attempt under the fence that is held now."""
        self.attempts.append(result.attempt)
        self.current, self.ending = result.attempt, result.ending

    def broke(self, job: AdmittedRequest) -> None:
        """Nobody can tell what the attempt under the running fence used: its whole hold, then."""
        self.ending = _BROKEN
        if (last := self.current) is not None:
            self.current = written_off_attempt(job, last.attempt)
            self.attempts = [*(each for each in self.attempts if each is not last), self.current]

    @property
    def actual(self) -> dict[documents.Unit, int | None]:
        """What the fence that is held now was used for. The request counts once: a given-up
        attempt was booked with it."""
        requests = 1 if self.attempts and not self.has_lost_first else 0
        return dict(actual_of(self.current, requests=requests))


@dataclass(slots=True)
class Failover:
    """Makes the calls of all requests."""

    ledger: LedgerClient
    slots: Slots
    upstreams: Upstreams
    bodies: BodySource
    leases: Leases
    metrics: Metrics
    clock: Clock
    counter: TokenCounter = field(default_factory=TokenCounter)
    dialects: Dialects = field(init=False)
    excesses: Excesses = field(init=False)

    def __post_init__(self) -> None:
        """What was learned is one for all requests."""
        self.dialects = Dialects(self.clock)
        config = self.slots.backends.config
        self.excesses = Excesses(lambda: config.snapshot.models, self.metrics, self.clock)

    async def run(
        self, job: AdmittedRequest, running: Running, replies: ReplyStream, history: AttemptHistory
    ) -> None:
        """Attempt after attempt until one ends the request; ``history`` is what became of it so far,
        also when this raises."""
        if not can_run(job.request):
            history.ending = _unknown(job)
            return
        await self._until_known(job)
        slot = await self._slot(job, running)
        if not isinstance(slot, Slot):
            history.ending = slot
            return
        whole = await self._whole(job, slot)
        if whole is None:
            history.ending = Result("failed", ErrorCode.BODY_LOST)
            return
        job = whole
        result = await self._call(job, slot, replies, running)
        history.ran(result)
        if not result.may_try_another or running.attempt >= ATTEMPTS_MAX:
            return
        second = await self._slot(job, running, slot.choice.backend_id)
        if result.is_cut and not isinstance(second, Slot):
            # Servers close what is idle; with nobody else the same one gets it on a fresh connection.
            second = await self._slot(job, running)
        if isinstance(second, Slot):
            await self._call_again(job, second, replies, running, history, result)

    async def _until_known(self, job: AdmittedRequest) -> None:
        """What was admitted may name a model or backend that has not reached this process yet; it waits
        alone, and is then judged by what is known."""
        config, offset = self.slots.backends.config, job.admitted.config_offset
        if offset > config.snapshot.offset:
            await config.wait_for(offset, min(_CONFIG_WITHIN_S, max(0.0, self._left_s(job))))

    async def _whole(self, job: AdmittedRequest, slot: Slot) -> AdmittedRequest | None:
        """The job with its body; the slot is given back when nobody has that any more."""
        whole = None
        self.slots.backends.waits(slot)
        try:
            whole = await self.bodies.whole(job)
        finally:
            if whole is None:
                self.slots.give_back(slot, "undecided")
        return whole

    async def _call_again(
        self,
        job: AdmittedRequest,
        slot: Slot,
        replies: ReplyStream,
        running: Running,
        history: AttemptHistory,
        first: AttemptResult,
    ) -> None:
        """The second attempt, if the ledger has room for it."""
        self.slots.backends.waits(slot)
        try:
            verdict = await self._next_attempt(job, running, first)
        except BaseException:
            # Whatever it is, the slot is not for this call any more.
            self.slots.give_back(slot, "undecided")
            raise
        if not isinstance(verdict, answers.Fence):
            self.slots.give_back(slot, "undecided")
            if isinstance(verdict, answers.Cancelled):
                history.ending = ABORTED["cancelled"]
            return
        running.first = _first(running.fence, first)
        running.fence = replies.fence = verdict.fence
        running.attempt, history.current = verdict.attempt, None
        if (early := self._too_late(job, running)) is not None:
            self.slots.give_back(slot, "undecided")
            history.ending = early
            return
        last = await self._call(job, slot, replies, running)
        history.ran(last)
        limited = ErrorCode.UPSTREAM_RATE_LIMITED
        if last.may_try_another and first.ending.code is limited is not last.ending.code:
            # Of two that did not serve it, the one that says when it will is the better answer.
            history.ending = first.ending

    async def _slot(self, job: AdmittedRequest, running: Running, *tried: str) -> Slot | Result:
        """A slot for a call, or how the request ends without one."""
        if (early := self._too_late(job, running)) is not None:
            return early
        found = await self.slots.take(
            SlotRequest(
                job.request,
                running.abort,
                job.admitted.admitted_at_ms + running.claimed_after_ms,
                tried,
            )
        )
        if (early := self._too_late(job, running)) is not None:
            if isinstance(found, Slot):
                self.slots.give_back(found, "undecided")
            return early
        if isinstance(found, NoSlot):
            code = found.code or ErrorCode.DEADLINE_EXCEEDED
            return Result("failed", code, retry_after_ms=found.retry_after_ms)
        return found

    def _too_late(self, job: AdmittedRequest, running: Running) -> Result | None:
        """How the request ends if it must not be called any more."""
        if running.abort.reason is not None:
            return ABORTED[running.abort.reason]
        return None if self._left_s(job) > 0 else Result("failed", ErrorCode.DEADLINE_EXCEEDED)

    def _left_s(self, job: AdmittedRequest) -> float:
        return (job.request.deadline_ms - self.clock.now_ms()) / 1000

    async def _call(
        self, job: AdmittedRequest, slot: Slot, replies: ReplyStream, running: Running
    ) -> AttemptResult:
        """One call in its slot, measured."""

        async def note_streamed() -> bool:
            # The call's own deadline ends this wait; until then the ledger may come back.
            until_s = self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S
            return await retry_until(
                lambda: self.leases.note_streamed(running), LedgerUnavailable, until_s
            )

        run = AttemptRun(
            job,
            slot.choice,
            running.attempt,
            replies,
            self.upstreams,
            self.clock,
            note_streamed,
            running.abort,
            self.counter,
            self.dialects,
            self.excesses,
        )
        running.abort.on_answer = partial(self.slots.backends.answered, slot)
        self.slots.backends.begins(slot)
        started_at_ms, verdict = self.clock.now_ms(), _NO_VERDICT
        try:
            result = await run.run()
            verdict = result.verdict
        except Exception as defect:  # noqa: BLE001  # total: what it used is unknown then, so all it held
            _LOG.event(
                LogEvent.ATTEMPT_DEFECT,
                **of_request(job.request),
                attempt=running.attempt,
                defect=defect,
            )
            result = _broken(job, slot, running.attempt, started_at_ms, self.clock.now_ms())
        finally:
            self.slots.give_back(slot, verdict)
        self._measure(result.attempt)
        return result

    def _measure(self, attempt: Attempt) -> None:
        self.metrics.count("tallygate_attempts_total", attempt.backend, attempt.status)
        duration_s = (attempt.finished_at_ms - attempt.started_at_ms) / 1000
        self.metrics.observe("tallygate_attempt_duration_seconds", duration_s, attempt.backend)

    async def _next_attempt(
        self, job: AdmittedRequest, running: Running, first: AttemptResult
    ) -> answers.NextAttemptAnswer:
        """The ledger's verdict on a second attempt; when the first cannot have spent, its hold
        moves. Asked until answered, because a verdict that got lost may have moved it already. One that
        was rebuilt meanwhile is told of the first before."""
        document = documents.NextAttempt(
            org=job.request.org,
            req=job.request.request_id,
            fence=running.fence,
            may_have_spent=first.may_have_spent,
            second=balances(job),
            estimate=actual_of(first.attempt, requests=0),
        )

        async def ask() -> answers.NextAttemptAnswer:
            verdict = await self.ledger.next_attempt(document)
            if not isinstance(verdict, answers.Gone):
                return verdict
            attached = await self.ledger.attach(running.attachment())
            if isinstance(attached, answers.Gone | answers.Stale):
                return attached
            return await self.ledger.next_attempt(document)

        until_s = self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S
        return await retry_until(ask, LedgerUnavailable, until_s)


def _first(fence: int, result: AttemptResult) -> documents.FirstAttempt:
    """What the first attempt cost, as the ledger settled it."""
    spent = result.attempt if result.may_have_spent else None
    return documents.FirstAttempt(
        verdict="FAILED", fence=fence, actual=dict(actual_of(spent, requests=0))
    )


def _unknown(job: AdmittedRequest) -> Result:
    """The end of a request that no process of this version can run; one of a newer version may."""
    _LOG.event(LogEvent.OPERATION_UNKNOWN, **of_request(job.request), route=job.request.route)
    message = "The operation is not known to the process that was to run it."
    return Result("failed", ErrorCode.SERVICE_UNAVAILABLE, message=message)


def _broken(
    job: AdmittedRequest, slot: Slot, number: int, started_at_ms: int, now_ms: int
) -> AttemptResult:
    attempt = msgspec.structs.replace(
        written_off_attempt(job, number),
        backend=slot.choice.backend_id,
        status="interrupted",
        started_at_ms=started_at_ms,
        finished_at_ms=now_ms,
    )
    return AttemptResult(
        attempt,
        _BROKEN,
        may_try_another=False,
        may_have_spent=True,
        verdict=_NO_VERDICT,
    )
