"""Admission: accepted requests in; dispatches, refusals and deferrals out.

One ledger round trip per batch, and a second one for those that would have to wait and must not. It
fails closed: while the ledger does not answer, requests wait until their deadline and then end with
503; none is admitted or refused without a verdict.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from limiter_worker.accepted import Accepted, accepted_of
from limiter_worker.deferral import Wait, Waiters, wait_of
from limiter_worker.execution import Decided, Execution
from limiter_worker.info import Info, info_of
from limiter_worker.terms import DefaultRate, NoTerms, Terms, terms_of
from limiter_worker.verdicts import (
    Decidable,
    Dispatch,
    End,
    decide,
    end,
    is_without_effect,
    may_wait,
    refuse_without_terms,
    was_produced_too_late,
)
from schemas.codec import MalformedRecord
from schemas.errors import ErrorCode
from schemas.runtime.clock import Clock
from schemas.runtime.config import ConfigFeed
from schemas.runtime.consume.dead_letters import DeadLetters
from schemas.runtime.consume.records import Record
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient, answered
from schemas.runtime.ledger.errors import LedgerUnavailable
from schemas.runtime.retry import retry_until
from schemas.runtime.telemetry import Metrics

_LOG = logging.getLogger(__name__)

_CONFIG_WAIT_S = 5.0
_ROLL_RETRIES_MAX = 5
_ROLL_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that was read from its record."""

    record: Record
    accepted: Accepted

    def becomes(self, decision: Dispatch | End | Wait) -> Decided:
        """The request with its decision."""
        return Decided(self.record, self.accepted, decision)


@dataclass(frozen=True, slots=True)
class _Open:
    """A request of the batch that still needs its verdict."""

    taken: Taken
    terms: Terms

    @property
    def deadline_ms(self) -> int:
        return self.taken.accepted.request.deadline_ms

    def without_waiting(self) -> _Open:
        """The same, to be refused for good: the ledger keeps that verdict."""
        admit = msgspec.structs.replace(self.terms.admit, defer=False)
        return replace(self, terms=replace(self.terms, admit=admit))


@dataclass(slots=True)
class Admission:
    """Decides batches of requests."""

    ledger: LedgerClient
    execution: Execution
    waiters: Waiters
    config: ConfigFeed
    dead_letters: DeadLetters
    metrics: Metrics
    clock: Clock
    default_rate: DefaultRate

    async def handle(self, batch: list[Record]) -> None:
        """Decide every record of the batch; returns when the broker has all that follows."""
        await self.admit(await self.take(batch))

    async def take(self, batch: Sequence[Record]) -> list[Taken]:
        """The requests in the records; what is none is dead-lettered and finished."""
        self.metrics.observe("tallygate_batch_records", len(batch))
        taken = []
        for record in batch:
            headers, appended_at_ms = record.headers, record.timestamp_ms
            try:
                accepted = accepted_of(record.value, headers, record.ref, appended_at_ms)
            except MalformedRecord as error:
                await self.dead_letters.take(record, "decode", error)
                self.metrics.count("tallygate_dead_letters_total", record.topic)
                record.finish()
            else:
                taken.append(Taken(record, accepted))
        return taken

    async def admit(self, batch: Sequence[Taken]) -> None:
        """Decide every request; returns when the broker has all that follows."""
        if not batch:
            return
        await self._wait_for_config(batch)
        decided: list[Decided] = []
        waiting: list[_Open] = []
        for taken in batch:
            sorted_out = self._without_ledger(taken.accepted)
            if isinstance(sorted_out, Terms):
                waiting.append(_Open(taken, sorted_out))
            elif sorted_out is None:
                self._drop(taken)
            else:
                decided.append(taken.becomes(sorted_out))
        decided += await self._decide(waiting)
        for each in decided:
            if not isinstance(each.decision, Wait):
                self.waiters.leave(each.accepted.request)
        await self.execution.carry_out(decided)

    def _drop(self, taken: Taken) -> None:
        """The request is over already, and nothing follows from its record."""
        self.waiters.leave(taken.accepted.request)
        taken.record.finish()

    async def _wait_for_config(self, batch: Sequence[Taken]) -> None:
        """Ingress may know of a key or model that has not reached this process yet."""
        newest = max(taken.accepted.request.config_offset for taken in batch)
        if not await self.config.wait_for(newest, _CONFIG_WAIT_S):
            _LOG.warning("config offset %d is not here after %.0f s", newest, _CONFIG_WAIT_S)

    def _without_ledger(self, accepted: Accepted) -> Terms | End | None:
        """What can be said before the ledger is asked; ``None`` when the record has no effect."""
        now_ms = self.clock.now_ms()
        if is_without_effect(accepted.request, now_ms):
            return None
        if was_produced_too_late(accepted):
            return end(accepted, "expired", ErrorCode.SERVICE_UNAVAILABLE)
        terms = self._terms(accepted, now_ms)
        return refuse_without_terms(accepted, terms) if isinstance(terms, NoTerms) else terms

    def _terms(self, accepted: Accepted, now_ms: int) -> Terms | NoTerms:
        info: Info = info_of(accepted.request, accepted.ref)
        return terms_of(
            accepted.request, self.config.snapshot, self.default_rate, now_ms, info.encoded()
        )

    async def _decide(self, waiting: list[_Open]) -> list[Decided]:
        """Ask the ledger until every request has a decision or has passed its deadline."""
        decided: list[Decided] = []
        rolls = 0
        while waiting:
            verdicts = await self._admit(waiting)
            must_not_wait: list[_Open] = []
            rolled: list[_Open] = []
            for request, verdict in zip(waiting, verdicts, strict=True):
                match verdict:
                    case answers.Rolled() if rolls < _ROLL_RETRIES_MAX:
                        rolled.append(request)
                    case answers.Duplicate(answer=None):
                        self._drop(request.taken)
                    case _:
                        decision = self._decision(request, verdict)
                        if decision is None:
                            must_not_wait.append(request.without_waiting())
                        else:
                            decided.append(request.taken.becomes(decision))
            if rolled:
                rolls += 1
                await asyncio.sleep(_ROLL_PAUSE_S)
            waiting = [*must_not_wait, *map(self._renewed, rolled)]
        return decided

    def _decision(
        self, request: _Open, verdict: answers.AdmitAnswer | None
    ) -> Dispatch | End | Wait | None:
        """What follows; ``None`` when only a wait would help and there is no room or time for it."""
        match verdict:
            case None | answers.Rolled():
                accepted = request.taken.accepted
                return end(accepted, "expired", ErrorCode.SERVICE_UNAVAILABLE)
            case answers.Duplicate(answer=earlier):
                assert earlier is not None, "what is over is dropped before"
                return self._verdict(request, earlier)
            case _:
                decision = self._verdict(request, verdict)
                if request.terms.admit.defer and may_wait(verdict) and isinstance(decision, End):
                    return self._wait(request, decision)
                return decision

    def _verdict(self, request: _Open, answer: Decidable) -> Dispatch | End:
        self.metrics.count("tallygate_limit_decisions_total", type(answer).__name__.lower())
        offset = self.config.snapshot.offset
        return decide(request.taken.accepted, request.terms, answer, offset)

    def _wait(self, request: _Open, refusal: End) -> Wait | None:
        """A wait instead of the refusal, if there is time and room for it."""
        now_ms = self.clock.now_ms()
        wait = wait_of(request.taken.accepted, refusal, now_ms)
        return wait if wait is not None and self.waiters.enter(wait, now_ms) else None

    def _renewed(self, request: _Open) -> _Open:
        """The same request in the period that has begun meanwhile."""
        terms = self._terms(request.taken.accepted, self.clock.now_ms())
        return replace(request, terms=terms) if isinstance(terms, Terms) else request

    async def _admit(self, waiting: list[_Open]) -> Sequence[answers.AdmitAnswer | None]:
        """The ledger's answers; ``None`` for requests whose deadline passed while it was away."""
        asked = waiting
        while asked:
            now_ms = self.clock.now_ms()
            earliest_ms = min(request.deadline_ms for request in asked)
            deadline_s = self.clock.monotonic_s() + (earliest_ms - now_ms) / 1000
            batch = [request.terms.admit for request in asked]
            try:
                found = await retry_until(partial(self._ask, batch), LedgerUnavailable, deadline_s)
            except LedgerUnavailable as error:
                _LOG.warning("the ledger is away: %r", error)
                asked = [request for request in asked if request.deadline_ms > self.clock.now_ms()]
                continue
            by_request = {id(r): answer for r, answer in zip(asked, found, strict=True)}
            return [by_request.get(id(r)) for r in waiting]
        return [None for _ in waiting]

    async def _ask(self, batch: Sequence[documents.Admit]) -> list[answers.AdmitAnswer]:
        return answered(await self.ledger.admit_many(batch))
