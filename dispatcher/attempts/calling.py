"""Makes one call in its slot, and measures it; whatever comes of it, the slot is given back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from dispatcher.amounts import written_off_attempt
from dispatcher.attempts.attempt import AttemptRun
from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.attempts.attempt_span import attempt_ended, attempting
from dispatcher.attempts.dialects import Dialects
from dispatcher.attempts.excess import Excesses
from dispatcher.attempts.history import BROKEN
from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.backends.breaker import CallEnd
from dispatcher.backends.registry import Slot
from dispatcher.backends.slots import Slots
from dispatcher.claims.claiming import AS_LONG_AS_IT_TAKES_S
from dispatcher.claims.leases import Leases, Running
from dispatcher.replies import ReplyStream
from dispatcher.upstream.upstreams import Upstreams
from dispatcher.work import AdmittedRequest
from schemas.ledger.errors import LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.process.retry import retry_until
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Tracer

__all__ = ["Calls"]

_LOG = EventLog(__name__)

_NO_VERDICT: Final[CallEnd] = "undecided"


@dataclass(slots=True)
class Calls:
    """Makes the calls of all requests; what they teach is one for all."""

    slots: Slots
    upstreams: Upstreams
    leases: Leases
    metrics: Metrics
    clock: Clock
    counter: TokenCounter
    tracer: Tracer | None = None
    dialects: Dialects = field(init=False)
    excesses: Excesses = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is known yet."""
        self.dialects = Dialects(self.clock)
        config = self.slots.backends.config
        self.excesses = Excesses(lambda: config.snapshot.models, self.metrics, self.clock)

    async def make(
        self, job: AdmittedRequest, slot: Slot, replies: ReplyStream, running: Running
    ) -> AttemptResult:
        """One call in its slot, measured."""

        async def note_streamed() -> bool:
            # The call's own deadline ends this wait; until then the ledger may come back.
            until_s = self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S
            return await retry_until(
                lambda: self.leases.note_streamed(running), LedgerUnavailable, until_s
            )

        span = None
        if self.tracer is not None:
            span = attempting(self.tracer, job, slot.choice, running.attempt)
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
            None if span is None else span.traceparent.decode(),
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
        self._measure(job, result)
        if span is not None:
            assert self.tracer is not None
            attempt_ended(span, result, with_content=self.tracer.with_content)
        return result

    def _measure(self, job: AdmittedRequest, result: AttemptResult) -> None:
        attempt, code = result.attempt, result.ending.code or ""
        self.metrics.count("tallygate_attempts_total", attempt.backend, attempt.status, code)
        duration_s = (attempt.finished_at_ms - attempt.started_at_ms) / 1000
        request_id = job.request.request_id
        self.metrics.observe(
            "tallygate_attempt_duration_seconds", duration_s, attempt.backend, request_id=request_id
        )
        self.metrics.observe("tallygate_stage_duration_seconds", duration_s, "upstream")


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
        BROKEN,
        may_try_another=False,
        may_have_spent=True,
        verdict=_NO_VERDICT,
    )
