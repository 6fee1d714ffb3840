"""Finds requests for their callers: whatever became of them, and the records of that.

The ledger tells of the last minutes where an outcome stands; the log has the rest, and is read within the organization's
share of readers of its own, so that no look-up waits for another organization's, nor any answer of a keyed request or a job
for one. Requests of other organizations look like none, and to a user those of others and of programs do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final, Protocol
from uuid import UUID

from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from ingress.requests.reader_shares import LookupsWait, ReaderShares, refuse_wait
from ingress.requests.request_document import (
    RequestEvents,
    RequestShown,
    request_document,
    request_events,
    with_texts,
)
from schemas.codec import MalformedRecord, UnknownSchema, decode_as
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted, RequestFinished
from schemas.ids import uuid7_time_ms
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.ledger.states import OPEN
from schemas.runtime.kafka.outcome_lookup import Absent, Unproved
from schemas.runtime.kafka.record_reader import RecordUnreadable
from schemas.runtime.kafka.request_records import READERS, Question, Trace, Trail
from schemas.runtime.kafka.results import Records, Results
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.times import HOUR_MS

KEPT_MS: Final = 72 * HOUR_MS
"""So long the log has a request."""
_SKEW_MS: Final = 2_000
_READER_WITHIN_S: Final = 5.0
_WAITING_MAX: Final = 8

_NONE: Final = Refusal(ErrorCode.NOT_FOUND, "There is no such request.")
_TOO_OLD: Final = Refusal(ErrorCode.NOT_FOUND, "Requests are remembered for 72 hours.")
_AWAY: Final = Refusal(ErrorCode.SERVICE_UNAVAILABLE, "What became of it cannot be told now.")
_TEXTS: Final = Refusal(
    ErrorCode.KEY_NOT_ALLOWED, "What was sent and answered is shown to the key that sent it."
)


class RecordsOfRequests(Records, Protocol):
    """The log, read for one request, and for a result by its place."""

    async def find(self, question: Question) -> Trace:
        """What it has of it."""


def _shares() -> ReaderShares:
    return ReaderShares(readers=READERS, org_readers=1, org_waiting=_WAITING_MAX)


@dataclass(frozen=True, slots=True)
class RequestDesk:
    """Where one request is asked for."""

    ledger: LedgerClient
    records: RecordsOfRequests
    clock: Clock
    shares: ReaderShares = field(default_factory=_shares)

    async def show(
        self, caller: Caller, request_id: str, *, with_payload: bool
    ) -> RequestShown | Refusal:
        """What became of a request; with its texts where they are wanted."""
        asked = await self._ask(caller, request_id)
        if isinstance(asked, Refusal):
            return asked
        question, known = asked
        question = replace(question, with_request=with_payload)
        trail = await self._trail(caller, question)
        if isinstance(trail, Refusal):
            return trail
        accepted, outcome = trail.accepted, trail.outcome
        shown = request_document(accepted, outcome, known.state)
        return with_texts(shown, accepted, outcome) if with_payload else shown

    async def events(self, caller: Caller, request_id: str) -> RequestEvents | Refusal:
        """The records of a request."""
        asked = await self._ask(caller, request_id)
        if isinstance(asked, Refusal):
            return asked
        question = replace(asked[0], with_all=True)
        trail = await self._trail(caller, question)
        if isinstance(trail, Refusal):
            return trail
        return request_events(trail.found, is_complete=trail.is_whole)

    async def stop(self) -> None:
        """Disconnect what reads the log."""
        await self.records.stop()

    async def _ask(
        self, caller: Caller, request_id: str
    ) -> tuple[Question, answers.Look] | Refusal:
        """What the ledger says of it, and what to ask the log; nothing is asked of what is older than the log."""
        now_ms = self.clock.now_ms()
        try:
            made_ms = uuid7_time_ms(request_id)
            request_id = str(UUID(request_id))  # In the form in which it stands in records.
        except ValueError:
            return _NONE
        if made_ms > now_ms + _SKEW_MS:
            return _NONE
        if made_ms < now_ms - KEPT_MS:
            return _TOO_OLD
        try:
            known = await self.ledger.look(documents.Look(org=caller.org, req=request_id))
            outcome = decode_as(known.outcome, RequestFinished) if known.outcome else None
        except (LedgerUnavailable, UnknownSchema, MalformedRecord):
            return _AWAY
        question = Question(
            org=caller.org,
            request_id=request_id,
            now_ms=now_ms,
            is_known=bool(known.state),
            has_memory=not known.kept_missing,
            has_ended=False if known.state in OPEN else None,
            outcome=outcome,
            outcome_at=answers.outcome_place(known.booked),
        )
        return question, known

    async def _trail(self, caller: Caller, question: Question) -> Trail | Refusal:
        """Its records, read in the organization's turn, with its result where its texts are wanted."""
        try:
            async with asyncio.timeout(_READER_WITHIN_S) as queueing:
                async with self.shares.reader(caller.org):
                    queueing.reschedule(None)  # What is read has a bound of its own.
                    return await self._read(caller, question)
        except (LookupsWait, TimeoutError):
            return refuse_wait(_WAITING_MAX)
        except RecordUnreadable:
            return _AWAY

    async def _read(self, caller: Caller, question: Question) -> Trail | Refusal:
        trace = await self.records.find(question)
        if isinstance(trace, Unproved):
            return _AWAY
        if isinstance(trace, Absent):
            return _NONE
        event = trace.outcome or trace.accepted
        if event is None:
            return _AWAY
        if not _may_see(caller, event):
            return _NONE
        if not question.with_request:
            return trace
        if event.key_id != caller.key_id:
            return _TEXTS
        results = Results(self.records)
        whole = [
            replace(each, event=await results.restored(each.event))
            if isinstance(each.event, RequestFinished)
            else each
            for each in trace.found
        ]
        return replace(trace, found=tuple(whole))


def _may_see(caller: Caller, event: RequestAccepted | RequestFinished) -> bool:
    """Programs see all of their organization, as of its jobs; users see what they asked for by the same way."""
    if caller.owner is None:
        return True
    return event.key_id == caller.key_id and event.user == caller.user
