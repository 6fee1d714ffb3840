"""Finds out what became of a request, wherever that is still known.

The frames on the bus tell most and go first; then the ledger, which keeps the outcome until it is
booked; last the log, where every outcome is: at a place that the ledger remembers, else found by the time
in the request's id. Nothing is stored for this purpose.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ingress.endings import end_by_state, end_in_outcome, error_end
from schemas.codec import MalformedRecord, UnknownSchema, decode_as
from schemas.errors import ErrorCode
from schemas.events import RequestFinished
from schemas.frames import Frame, Terminal
from schemas.runtime.clock import Clock
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.outcome_lookup import Found
from schemas.runtime.record_reader import RecordGone, RecordUnreadable
from schemas.runtime.results import READ_WITHIN_S, Records, Results
from schemas.runtime.store import StoreError, StoreUnavailable


class LastFrames(Protocol):
    """The bus, as far as it is read here."""

    async def last(self, request_id: str) -> Frame | None:
        """The newest frame of a request."""


class Outcomes(Protocol):
    """The log of outcomes."""

    async def find(self, org: str, request_ids: list[str]) -> Found:
        """The outcomes of requests of one organization."""


@dataclass(frozen=True, slots=True)
class Open:
    """It has not ended."""

    status: Literal["queued", "running"]


@dataclass(frozen=True, slots=True)
class Ended:
    """It has ended; its frames may still be on the bus."""

    terminal: Terminal
    is_on_bus: bool


@dataclass(frozen=True, slots=True)
class NeverRan:
    """Its deadline passed, and there is no trace of it anywhere."""


@dataclass(frozen=True, slots=True)
class Unsure:
    """The log could not be read in time, or a newer version wrote what stands there."""


Memory: TypeAlias = Open | Ended | NeverRan | Unsure


@dataclass(frozen=True, slots=True)
class Recollection:
    """Asks the bus, the ledger and the log."""

    ledger: LedgerClient
    bus: LastFrames
    outcomes: Outcomes
    records: Records
    clock: Clock

    async def find(self, org: str, request_id: str, deadline_ms: int) -> Memory:
        """What became of one request. Raises ``LedgerUnavailable``."""
        look = documents.Look(org=org, req=request_id)
        known, end = await asyncio.gather(self.ledger.look(look), self.end_on_bus(request_id))
        if end is not None:
            return Ended(end, is_on_bus=True)
        try:
            return await self._in_ledger(known, deadline_ms) or await self._in_log(
                org, request_id, known.state, deadline_ms
            )
        except (RecordUnreadable, UnknownSchema):
            return Unsure()

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

    async def _in_ledger(self, known: answers.Look, deadline_ms: int) -> Memory | None:
        """What the ledger knows, or knows the place of; ``None`` when the log has to be searched."""
        if known.outcome:
            return await self._ended(known.outcome)
        if known.state == "RUNNING":
            return Open("running")
        if known.state == "RESERVED" or (not known.state and self.clock.now_ms() < deadline_ms):
            return Open("queued")
        implied = end_by_state(known.state)
        place = answers.outcome_place(known.booked)
        if place is None:
            return None if implied is None else Ended(implied, is_on_bus=False)
        try:
            return await self._ended(await self.records.read(place, READ_WITHIN_S) or b"")
        except (RecordGone, MalformedRecord):
            return Ended(implied or error_end(ErrorCode.RESULT_LOST), is_on_bus=False)
        except (RecordUnreadable, UnknownSchema):
            return Unsure() if implied is None else Ended(implied, is_on_bus=False)

    async def _ended(self, encoded: bytes) -> Ended:
        outcome = await Results(self.records).restored(decode_as(encoded, RequestFinished))
        return Ended(end_in_outcome(outcome), is_on_bus=False)

    async def _in_log(self, org: str, request_id: str, state: str, deadline_ms: int) -> Memory:
        log = await self.outcomes.find(org, [request_id])
        outcome = log.outcomes.get(request_id)
        if outcome is not None:
            restored = await Results(self.records).restored(outcome)
            return Ended(end_in_outcome(restored), is_on_bus=False)
        if not log.is_complete:
            return Unsure()
        if self.clock.now_ms() < deadline_ms:
            return Open("queued")  # It was decided just now, and its end is on its way to the log.
        if state:
            return Ended(error_end(ErrorCode.RESULT_LOST), is_on_bus=False)
        return NeverRan()
