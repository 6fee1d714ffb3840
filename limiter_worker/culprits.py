"""Ends a request that cannot be decided: its bytes, its limits or we are at fault, and it pays alone.

It gets an outcome and a reply at once; its record is kept as a dead letter; what it may hold returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from limiter_worker.accepted import accepted_of
from limiter_worker.decisions import Rejection, decide, end
from limiter_worker.limits import decline_terms
from limiter_worker.replies import ReplySender
from limiter_worker.taken import Taken
from schemas.errors import ErrorCode
from schemas.failures import Poison, Transient
from schemas.headers import passed_on
from schemas.ledger import answers
from schemas.ledger.documents import Decline
from schemas.ledger.errors import LedgerFault, LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.outgoing import outcome_record
from schemas.runtime.kafka.consume.dead_letters import DeadLetters, TooManyDeadLetters
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request, place_of, traced
from schemas.runtime.process.retry import retry_until
from schemas.runtime.process.telemetry import Metrics

_LOG = EventLog(__name__)

_WAITS_S = 3_600.0
"""For broker or ledger; then the record is left to be read again."""


@dataclass(slots=True)
class Culprits:
    """Takes requests that failed; each is a task of its own, and there are as many as the inbox lets in."""

    ledger: LedgerClient
    producer: Producer
    replies: ReplySender
    dead_letters: DeadLetters
    metrics: Metrics
    clock: Clock
    _ending: set[asyncio.Task[None]] = field(default_factory=set)

    def end(self, taken: Taken, error: Exception) -> None:
        """Begin to end the request."""
        _LOG.event(
            LogEvent.REQUEST_DEFECT,
            **place_of(taken.record),
            **of_request(taken.accepted.request, taken.record.headers),
            defect=error,
        )
        self._begin(self._end(taken, error))

    def bury(self, record: Record, error: Exception) -> None:
        """Begin to dead-letter a record that is no request: whose it is cannot be told."""
        self._begin(self._bury_unread(record, error))

    async def end_record(self, record: Record, error: Exception) -> None:
        """End the request in a record whose handling failed outside of any boundary. Raises ``Transient``
        when broker or ledger stayed away for too long: the record must be read again."""
        try:
            accepted = accepted_of(record.value, record.headers, record.ref, record.timestamp_ms)
        except Exception:  # noqa: BLE001  # total: it is no request, whatever else it is
            await self._bury_unread(record, error)
        else:
            await self._end(Taken(record, accepted), error)
        if not record.is_finished:
            raise Transient(f"{record.ref} has no end yet")

    async def settled(self) -> None:
        """Returns once all that began has ended."""
        while self._ending:
            await asyncio.wait(self._ending)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _bury_unread(self, record: Record, error: Exception) -> None:
        try:
            await self.dead_letters.take(record, "decode", error)
        except Poison as reason:
            # As large as records get: it stays where it is, and only there.
            _LOG.event(
                LogEvent.NO_DEAD_LETTER, **place_of(record), **traced(record.headers), error=reason
            )
            record.finish()
        except Exception as defect:  # noqa: BLE001  # total: the record stays unfinished, and the watchdog sees it
            _LOG.event(
                LogEvent.NO_DEAD_LETTER, **place_of(record), **traced(record.headers), defect=defect
            )
        else:
            self.metrics.count("tallygate_dead_letters_total", record.topic)
            record.finish()

    async def _end(self, taken: Taken, error: Exception) -> None:
        """Every step is tried, and the record finished, unless broker or ledger stay away for too long."""
        try:
            try:
                ended = await self._end_of(taken)
                if ended is not None:
                    await self._follow(taken, ended)
            finally:
                await self._bury(taken, error)
        except Transient as away:
            _LOG.event(LogEvent.READ_AGAIN, **of_request(taken.accepted.request), error=away)
            return
        except Exception as defect:  # noqa: BLE001  # total: what fails even here must not come again for ever
            _LOG.event(LogEvent.NO_OUTCOME, **of_request(taken.accepted.request), defect=defect)
        taken.record.finish()

    async def _end_of(self, taken: Taken) -> Rejection | None:
        """How the request ends: by this defect, unless it was decided before; what it holds returns.
        ``None`` when it runs or is over: then its end is somebody else's."""
        terms = decline_terms(taken.accepted.request, Decline(why="defect"))
        until_s = self.clock.monotonic_s() + _WAITS_S
        try:
            answer = await retry_until(
                lambda: self.ledger.admit(terms.admit), LedgerUnavailable, until_s
            )
        except LedgerFault as error:
            # Nobody else gets a decision on it either, and what it holds is voided by the reaper.
            _LOG.event(LogEvent.NO_DECISION, **of_request(taken.accepted.request), error=error)
            return end(taken.accepted, "failed", ErrorCode.INTERNAL_ERROR)
        first = answer.answer if isinstance(answer, answers.Duplicate) else answer
        if first is None or isinstance(
            first, answers.Admitted | answers.Superseded | answers.Rolled
        ):
            return None
        decision = decide(taken.accepted, terms, first)
        return decision if isinstance(decision, Rejection) else None

    async def _follow(self, taken: Taken, ended: Rejection) -> None:
        self.replies.offer(taken.accepted.request, ended.terminal)
        outcome = outcome_record(ended.outcome, "limiter_worker", passed_on(taken.record.headers))
        try:
            await self.producer.deliver([outcome], self.clock.monotonic_s() + _WAITS_S)
        except Poison as error:
            _LOG.event(LogEvent.NO_OUTCOME, **of_request(taken.accepted.request), error=error)

    async def _bury(self, taken: Taken, error: Exception) -> None:
        record = taken.record
        try:
            await self.dead_letters.take(record, "admit", error)
        except (TooManyDeadLetters, Poison) as reason:
            # Its outcome tells what became of it; a flood of one tenant's must not stop the rest.
            _LOG.event(
                LogEvent.NO_DEAD_LETTER,
                **place_of(record),
                **of_request(taken.accepted.request),
                error=reason,
            )
        else:
            self.metrics.count("tallygate_dead_letters_total", record.topic)
