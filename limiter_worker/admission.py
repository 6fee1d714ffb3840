"""Admission: a batch of accepted requests in, dispatches and refusals out.

One ledger round trip per batch. A request's offset goes only when the broker has what follows from it.
It fails closed: while the ledger does not answer, requests wait until their deadline and then end with
503; none is admitted or refused without a verdict.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from limiter_worker.info import Info, info_of
from limiter_worker.terms import DefaultRate, NoTerms, Terms, terms_of
from limiter_worker.verdicts import (
    Accepted,
    Decidable,
    Dispatch,
    End,
    decide,
    end,
    is_without_effect,
    refuse_without_terms,
    was_produced_too_late,
)
from schemas import topics
from schemas.codec import MalformedRecord, decode_as, encode
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted
from schemas.frames import Frame
from schemas.headers import event_headers, passed_on
from schemas.runtime.bus import Bus
from schemas.runtime.clock import Clock
from schemas.runtime.config import ConfigFeed
from schemas.runtime.consume.dead_letters import DeadLetters
from schemas.runtime.consume.records import Record
from schemas.runtime.ledger import answers
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.ledger.errors import LedgerUnavailable
from schemas.runtime.produce import Outgoing, Producer
from schemas.runtime.retry import retry_until
from schemas.runtime.store import StoreError, StoreUnavailable
from schemas.runtime.telemetry import Metrics

_LOG = logging.getLogger(__name__)

_SOURCE = "limiter_worker"
_CONFIG_WAIT_S = 5.0
_PRODUCE_DEADLINE_S = 3_600.0
_ROLL_RETRIES_MAX = 5
_ROLL_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class _Open:
    """A request of the batch that still needs its verdict."""

    record: Record
    accepted: Accepted
    terms: Terms


@dataclass(slots=True)
class Admission:
    """Handles batches of the requests topic."""

    ledger: LedgerClient
    producer: Producer
    bus: Bus
    config: ConfigFeed
    dead_letters: DeadLetters
    metrics: Metrics
    clock: Clock
    default_rate: DefaultRate

    async def handle(self, batch: list[Record]) -> None:
        """Decide every record of the batch; returns when the broker has all that follows."""
        self.metrics.observe("tallygate_batch_records", len(batch))
        requests = [r for record in batch if (r := await self._decoded(record)) is not None]
        if not requests:
            return
        await self._wait_for_config([accepted for _, accepted in requests])
        endings: list[tuple[Record, Accepted, Dispatch | End]] = []
        open_requests: list[_Open] = []
        for record, accepted in requests:
            sorted_out = self._without_ledger(record, accepted)
            if isinstance(sorted_out, _Open):
                open_requests.append(sorted_out)
            elif sorted_out is None:
                record.finish()
            else:
                endings.append((record, accepted, sorted_out))
        endings += await self._decide(open_requests)
        await self._carry_out(endings)

    async def _decoded(self, record: Record) -> tuple[Record, Accepted] | None:
        try:
            request = decode_as(record.value, RequestAccepted)
        except MalformedRecord as error:
            await self.dead_letters.take(record, "decode", error)
            self.metrics.count("tallygate_dead_letters_total", record.topic)
            record.finish()
            return None
        return record, Accepted(request, record.value or b"", record.ref, record.timestamp_ms)

    async def _wait_for_config(self, batch: Sequence[Accepted]) -> None:
        """Ingress may know of a key or model that has not reached this process yet."""
        newest = max(accepted.request.config_offset for accepted in batch)
        if not await self.config.wait_for(newest, _CONFIG_WAIT_S):
            _LOG.warning("config offset %d is not here after %.0f s", newest, _CONFIG_WAIT_S)

    def _without_ledger(self, record: Record, accepted: Accepted) -> _Open | End | None:
        """What can be said before the ledger is asked; ``None`` when the record has no effect."""
        now_ms = self.clock.now_ms()
        if is_without_effect(accepted.request, now_ms):
            return None
        if was_produced_too_late(accepted):
            return end(accepted, "expired", ErrorCode.SERVICE_UNAVAILABLE)
        terms = self._terms(accepted, now_ms)
        if isinstance(terms, NoTerms):
            return refuse_without_terms(accepted, terms)
        return _Open(record, accepted, terms)

    def _terms(self, accepted: Accepted, now_ms: int) -> Terms | NoTerms:
        info: Info = info_of(accepted.request, accepted.ref)
        return terms_of(
            accepted.request, self.config.snapshot, self.default_rate, now_ms, info.encoded()
        )

    async def _decide(self, waiting: list[_Open]) -> list[tuple[Record, Accepted, Dispatch | End]]:
        """Ask the ledger until every request has a verdict or has passed its deadline."""
        decided: list[tuple[Record, Accepted, Dispatch | End]] = []
        rolls = 0
        while waiting:
            verdicts = await self._admit(waiting)
            rolled: list[_Open] = []
            for request, verdict in zip(waiting, verdicts, strict=True):
                match verdict:
                    case answers.Rolled() if rolls < _ROLL_RETRIES_MAX:
                        rolled.append(request)
                    case None | answers.Rolled():
                        ending = end(request.accepted, "expired", ErrorCode.SERVICE_UNAVAILABLE)
                        decided.append((request.record, request.accepted, ending))
                    case answers.Duplicate(answer=None):
                        request.record.finish()
                    case answers.Duplicate(answer=earlier) if earlier is not None:
                        decided.append(self._verdict(request, earlier))
                    case _:
                        decided.append(self._verdict(request, verdict))  # type: ignore[arg-type]
            if rolled:
                rolls += 1
                await asyncio.sleep(_ROLL_PAUSE_S)
            waiting = [self._renewed(request) for request in rolled]
        return decided

    def _verdict(
        self, request: _Open, answer: Decidable
    ) -> tuple[Record, Accepted, Dispatch | End]:
        self.metrics.count("tallygate_limit_decisions_total", type(answer).__name__.lower())
        offset = self.config.snapshot.offset
        decision = decide(request.accepted, request.terms, answer, offset)
        return request.record, request.accepted, decision

    def _renewed(self, request: _Open) -> _Open:
        """The same request in the period that has begun meanwhile."""
        terms = self._terms(request.accepted, self.clock.now_ms())
        return replace(request, terms=terms) if isinstance(terms, Terms) else request

    async def _admit(self, waiting: list[_Open]) -> Sequence[answers.AdmitAnswer | None]:
        """The ledger's answers; ``None`` for requests whose deadline passed while it was away."""
        while True:
            now_ms = self.clock.now_ms()
            alive = [r for r in waiting if r.accepted.request.deadline_ms > now_ms]
            if not alive and waiting:
                return [None for _ in waiting]
            earliest_ms = min(r.accepted.request.deadline_ms for r in alive)
            deadline_s = self.clock.monotonic_s() + (earliest_ms - now_ms) / 1000

            async def ask(asked: list[_Open] = alive) -> list[answers.AdmitAnswer]:
                return await self.ledger.admit_many([r.terms.admit for r in asked])

            try:
                found = await retry_until(ask, LedgerUnavailable, deadline_s)
            except LedgerUnavailable as error:
                _LOG.warning("the ledger is away: %r", error)
                continue
            by_record = {id(r): answer for r, answer in zip(alive, found, strict=True)}
            return [by_record.get(id(r)) for r in waiting]

    async def _carry_out(self, decided: Sequence[tuple[Record, Accepted, Dispatch | End]]) -> None:
        """Produce what the decisions say, tell the clients, and let the offsets go."""
        deadline_s = self.clock.monotonic_s() + _PRODUCE_DEADLINE_S
        replies = [
            self._reply(accepted, decision)
            for _, accepted, decision in decided
            if isinstance(decision, End)
        ]
        produced = self.producer.deliver([_follow_up(*d) for d in decided], deadline_s)
        await asyncio.gather(produced, *replies)
        for record, _, _ in decided:
            record.finish()

    async def _reply(self, accepted: Accepted, ending: End) -> None:
        """Tell the client; without a bus it learns from its deadline, and the outcome stands."""
        request = accepted.request
        frame = Frame(request.request_id, 0, 1, ending.terminal)
        left_s = max(0, request.deadline_ms - self.clock.now_ms()) / 1000
        deadline_s = self.clock.monotonic_s() + left_s

        async def send() -> bool:
            return await self.bus.send(frame, request.reply_to)

        try:
            await retry_until(send, StoreUnavailable, deadline_s)
        except (StoreUnavailable, StoreError) as error:
            _LOG.warning("no reply for %s: %r", request.request_id, error)


def _follow_up(record: Record, accepted: Accepted, decision: Dispatch | End) -> Outgoing:
    """The record that follows from the decision."""
    request, at_ms = accepted.request, accepted.appended_at_ms
    more = passed_on(record.headers)
    if isinstance(decision, Dispatch):
        headers = event_headers("request.admitted", request.request_id, _SOURCE, at_ms, more)
        key, value = request.request_id, encode(decision.event)
        return Outgoing(topics.DISPATCH, key.encode(), value, headers)
    headers = event_headers("request.finished", request.request_id, _SOURCE, at_ms, more)
    return Outgoing(topics.OUTCOMES, request.org.encode(), encode(decision.outcome), headers)
