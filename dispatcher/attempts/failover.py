"""Runs a claimed request: one attempt, and another elsewhere if the first failed before its first byte.

A slot is the process's and the backend's in one. That of the second attempt is taken before the ledger is
asked for its hold, so that a hold is never taken for a call that cannot be made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dispatcher.attempts.attempt_end import ABORTED, AttemptResult
from dispatcher.attempts.calling import Calls
from dispatcher.attempts.history import AttemptHistory
from dispatcher.attempts.second_hold import SecondHolds, first_attempt
from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.backends.registry import Slot
from dispatcher.backends.slots import NoSlot, SlotRequest, Slots
from dispatcher.claims.leases import Leases, Running
from dispatcher.operations.bindings import can_run
from dispatcher.replies import ReplyStream
from dispatcher.upstream.bodies import BodySource
from dispatcher.upstream.upstreams import Upstreams
from dispatcher.work import AdmittedRequest, Result
from schemas.errors import ErrorCode
from schemas.flex import is_flex
from schemas.ledger import answers
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Tracer

_LOG = EventLog(__name__)

_CONFIG_WITHIN_S: Final = 5.0


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
    tracer: Tracer | None = None
    calls: Calls = field(init=False)
    holds: SecondHolds = field(init=False)

    def __post_init__(self) -> None:
        """Its own parts, of what it was given."""
        self.calls = Calls(
            self.slots,
            self.upstreams,
            self.leases,
            self.metrics,
            self.clock,
            self.counter,
            self.tracer,
        )
        self.holds = SecondHolds(self.ledger, self.clock)

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
        result = await self.calls.make(job, slot, replies, running)
        history.ran(result)
        if not result.may_try_another or running.attempt > slot.choice.retries:
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
            verdict = await self.holds.take(job, running, first)
        except BaseException:
            # Whatever it is, the slot is not for this call any more.
            self.slots.give_back(slot, "undecided")
            raise
        if not isinstance(verdict, answers.Fence):
            self.slots.give_back(slot, "undecided")
            if isinstance(verdict, answers.Cancelled):
                history.ending = ABORTED["cancelled"]
            return
        running.first = first_attempt(running.fence, first)
        running.fence = replies.fence = verdict.fence
        running.attempt, history.current = verdict.attempt, None
        if (early := self._too_late(job, running)) is not None:
            self.slots.give_back(slot, "undecided")
            history.ending = early
            return
        last = await self.calls.make(job, slot, replies, running)
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
            if found.code is None and is_flex(job.request):
                code = ErrorCode.RESOURCE_UNAVAILABLE
            why = None
            if code is ErrorCode.NO_BACKEND:
                why = self.slots.backends.why_none(job.request.model)
            return Result("failed", code, message=why, retry_after_ms=found.retry_after_ms)
        return found

    def _too_late(self, job: AdmittedRequest, running: Running) -> Result | None:
        """How the request ends if it must not be called any more."""
        if running.abort.reason is not None:
            return ABORTED[running.abort.reason]
        return None if self._left_s(job) > 0 else Result("failed", ErrorCode.DEADLINE_EXCEEDED)

    def _left_s(self, job: AdmittedRequest) -> float:
        return (job.request.deadline_ms - self.clock.now_ms()) / 1000


def _unknown(job: AdmittedRequest) -> Result:
    """The end of a request that no process of this version can run; one of a newer version may."""
    _LOG.event(LogEvent.OPERATION_UNKNOWN, **of_request(job.request), route=job.request.route)
    message = "The operation is not known to the process that was to run it."
    return Result("failed", ErrorCode.SERVICE_UNAVAILABLE, message=message)
