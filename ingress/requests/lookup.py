"""Finds out what became of a request, wherever that is still known.

The frames on the bus tell most and go first; then the ledger, which keeps the outcome until it is
booked; last the log, where every outcome is: at a place that the ledger remembers, else found by the time
in the request's id. Nothing is stored for this purpose. Whatever is read from the log is read within the
organization's share of the readers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from ingress.requests.outcomes import end_by_state, end_in_outcome, error_end
from ingress.requests.reader_shares import LookupsWait, ReaderShares
from ingress.requests.request_state import (
    Ended,
    Indeterminate,
    KeptRequest,
    NeverRan,
    Open,
    RequestState,
)
from schemas.codec import MalformedRecord, UnknownSchema, decode_as
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted, RequestFinished
from schemas.frames import Frame, Terminal
from schemas.ids import uuid7_time_ms
from schemas.ledger import answers, documents
from schemas.ledger.states import RAN
from schemas.runtime.kafka.outcome_lookup import Absent, Acceptance, Ending, InLog, Unproved
from schemas.runtime.kafka.record_reader import RecordGone, RecordUnreadable
from schemas.runtime.kafka.results import READ_WITHIN_S, Records, Results
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_ASKED_WITHIN_MS: Final = 60_000
"""After the time in its id a request is in the log, if ever: its body has been read by then, and its tokens counted."""
_READER_WITHIN_S: Final = 5.0
"""Until a reader is free; only the organization's own look-ups can keep it waiting."""


class LastFrames(Protocol):
    """The bus, as far as it is read here."""

    async def last(self, request_id: str) -> Frame | None:
        """The newest frame of a request."""


class RequestLog(Protocol):
    """The log, searched for one request of one organization."""

    async def find_accepted(self, org: str, request_id: str, until_ms: int) -> Acceptance:
        """Whether it was accepted until then."""

    async def find_outcome(self, org: str, request_id: str, appended_ms: int | None) -> Ending:
        """Its outcome; the time is that of its request's append."""

    async def stop(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class RequestLookup:
    """Asks the bus, the ledger and the log."""

    ledger: LedgerClient
    bus: LastFrames
    log: RequestLog
    records: Records
    clock: Clock
    shares: ReaderShares = field(default_factory=ReaderShares)

    async def find(self, org: str, request_id: str, deadline_ms: int) -> RequestState:
        """What became of one request. Raises ``LedgerUnavailable``."""
        look = documents.Look(org=org, req=request_id)
        known, end = await asyncio.gather(self.ledger.look(look), self.end_on_bus(request_id))
        if end is not None:
            return Ended(end, is_on_bus=True)
        try:
            told = self._told_by_ledger(known, deadline_ms)
            if told is not None:
                return told
            async with self._reader(org):
                return await self._in_log(org, request_id, known, deadline_ms)
        except (RecordUnreadable, UnknownSchema, LookupsWait, TimeoutError):
            return Indeterminate()

    async def kept(self, org: str, request_id: str) -> KeptRequest | Indeterminate | None:
        """An ended request that its surface shows again, with its outcome and result; ``None`` where the log has none.
        Raises ``LedgerUnavailable``."""
        known = await self.ledger.look(documents.Look(org=org, req=request_id))
        try:
            async with self._reader(org):
                outcome = await self._outcome_known(known)
                if outcome is None:
                    return await self._kept_in_log(org, request_id)
                if not outcome.parents:
                    return None
                encoded = await self.records.read(outcome.parents[0], READ_WITHIN_S)
                outcome = await Results(self.records).restored(outcome)
            return KeptRequest(decode_as(encoded, RequestAccepted), end_in_outcome(outcome))
        except (RecordGone, MalformedRecord):
            return None
        except (RecordUnreadable, UnknownSchema, LookupsWait, TimeoutError):
            return Indeterminate()

    async def is_decided_from_log(self, org: str, request_id: str) -> bool:
        """Whether the log has a record of it that came in time, so that it need not be produced again."""
        try:
            async with self._reader(org):
                found = await self.log.find_accepted(org, request_id, self.clock.now_ms())
        except (LookupsWait, TimeoutError):
            return False
        return isinstance(found, InLog) and found.is_in_time

    async def end_on_bus(self, request_id: str) -> Terminal | None:
        """The end in the request's stream; ``None`` also while the bus is away.

        A frame that says that the frames are lost is none: ledger or log may have the result.
        """
        try:
            frame = await self.bus.last(request_id)
        except (StoreUnavailable, StoreError):
            return None
        end = frame.content if frame is not None else None
        if not isinstance(end, Terminal) or end.error_code == ErrorCode.RESULT_LOST:
            return None
        return end

    async def stop(self) -> None:
        """Disconnect what reads the log."""
        await asyncio.gather(self.log.stop(), self.records.stop())

    @asynccontextmanager
    async def _reader(self, org: str) -> AsyncIterator[None]:
        async with asyncio.timeout(_READER_WITHIN_S) as queueing, self.shares.reader(org):
            queueing.reschedule(None)  # What is read has bounds of its own.
            yield

    def _told_by_ledger(self, known: answers.Look, deadline_ms: int) -> RequestState | None:
        """What the ledger says; ``None`` when the log has to be read."""
        if known.outcome:
            outcome = decode_as(known.outcome, RequestFinished)
            return None if outcome.result_ref is not None else _ended(outcome)
        if known.state in ("RUNNING", "RESTORED"):
            return Open("running")
        if known.state == "RESERVED" or (not known.state and self.clock.now_ms() < deadline_ms):
            return Open("queued")
        implied = end_by_state(known.state)
        if implied is None or answers.outcome_place(known.booked) is not None:
            return None
        return Ended(implied, is_on_bus=False)

    async def _in_log(
        self, org: str, request_id: str, known: answers.Look, deadline_ms: int
    ) -> RequestState:
        if known.outcome:
            return await self._restored(known.outcome)
        place = answers.outcome_place(known.booked)
        if place is None:
            return await self._search(org, request_id, known.state, deadline_ms)
        implied = end_by_state(known.state)
        try:
            return await self._restored(await self.records.read(place, READ_WITHIN_S) or b"")
        except (RecordGone, MalformedRecord):
            return Ended(implied or error_end(ErrorCode.RESULT_LOST), is_on_bus=False)
        except RecordUnreadable:
            return Indeterminate() if implied is None else Ended(implied, is_on_bus=False)

    async def _search(
        self, org: str, request_id: str, state: str, deadline_ms: int
    ) -> RequestState:
        """By the time in the id. A request that was accepted and has no outcome is open, however late."""
        is_accepted, appended_ms = bool(state), None
        if not is_accepted:
            accepted = await self.log.find_accepted(org, request_id, deadline_ms)
            if isinstance(accepted, Absent):
                return NeverRan()
            if isinstance(accepted, InLog):
                is_accepted, appended_ms = True, accepted.appended_ms
        outcome = await self.log.find_outcome(org, request_id, appended_ms)
        if isinstance(outcome, RequestFinished):
            return _ended(await Results(self.records).restored(outcome))
        if isinstance(outcome, Unproved) or not is_accepted:
            return Indeterminate()
        if state in RAN and self.clock.now_ms() >= deadline_ms:
            return Ended(error_end(ErrorCode.RESULT_LOST), is_on_bus=False)
        return Open("queued")

    async def _outcome_known(self, known: answers.Look) -> RequestFinished | None:
        """As the ledger has it, or where that says that it is; ``None`` where the log has to be searched."""
        if known.outcome:
            return decode_as(known.outcome, RequestFinished)
        place = answers.outcome_place(known.booked)
        if place is None:
            return None
        return decode_as(await self.records.read(place, READ_WITHIN_S), RequestFinished)

    async def _kept_in_log(self, org: str, request_id: str) -> KeptRequest | Indeterminate | None:
        """By the time in the id: first how it was asked, which is near, so that what never was is known not to be
        before a long log of outcomes is read."""
        until_ms = uuid7_time_ms(request_id) + _ASKED_WITHIN_MS
        asked = await self.log.find_accepted(org, request_id, until_ms)
        if isinstance(asked, Unproved):
            return Indeterminate()
        if isinstance(asked, Absent) or asked.request is None or asked.request.shown is None:
            return None
        outcome = await self.log.find_outcome(org, request_id, asked.appended_ms)
        if isinstance(outcome, RequestFinished):
            outcome = await Results(self.records).restored(outcome)
            return KeptRequest(asked.request, end_in_outcome(outcome))
        return Indeterminate() if isinstance(outcome, Unproved) else None

    async def _restored(self, encoded: bytes) -> Ended:
        return _ended(await Results(self.records).restored(decode_as(encoded, RequestFinished)))


def _ended(outcome: RequestFinished) -> Ended:
    return Ended(end_in_outcome(outcome), is_on_bus=False)
