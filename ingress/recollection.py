"""Finds out what became of a request, wherever that is still known.

The frames on the bus tell most and go first; then the ledger, which keeps the outcome until it is
booked; last the log, where every outcome is. Nothing is stored for this purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ingress.endings import end_by_state, end_in_outcome, error_end
from schemas.codec import decode_as
from schemas.errors import ErrorCode
from schemas.events import RequestFinished
from schemas.frames import Frame, Terminal
from schemas.runtime.clock import Clock
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.outcome_lookup import Found
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
    """The log could not be read in time."""


Memory: TypeAlias = Open | Ended | NeverRan | Unsure


@dataclass(frozen=True, slots=True)
class Recollection:
    """Asks the bus, the ledger and the log."""

    ledger: LedgerClient
    bus: LastFrames
    outcomes: Outcomes
    clock: Clock

    async def find(self, org: str, request_id: str, deadline_ms: int) -> Memory:
        """What became of one request. Raises ``LedgerUnavailable``."""
        return (await self.find_all(org, {request_id: deadline_ms}))[request_id]

    async def find_all(self, org: str, deadlines_ms: Mapping[str, int]) -> dict[str, Memory]:
        """What became of requests of one organization, given their deadlines by id."""
        asked = (self._at_hand(org, name, at_ms) for name, at_ms in deadlines_ms.items())
        at_hand = dict(zip(deadlines_ms, await asyncio.gather(*asked), strict=True))
        found: dict[str, Memory] = {
            name: memory for name, memory in at_hand.items() if not isinstance(memory, str)
        }
        missing = {name: state for name, state in at_hand.items() if isinstance(state, str)}
        if missing:
            log = await self.outcomes.find(org, list(missing))
            now_ms = self.clock.now_ms()
            for name, state in missing.items():
                found[name] = _in_log(log, name, state, is_early=now_ms < deadlines_ms[name])
        return found

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

    async def _at_hand(self, org: str, request_id: str, deadline_ms: int) -> Open | Ended | str:
        """What bus and ledger know; else the state of the attempt, with which to ask the log."""
        look = documents.Look(org=org, req=request_id)
        known, end = await asyncio.gather(self.ledger.look(look), self.end_on_bus(request_id))
        if end is not None:
            return Ended(end, is_on_bus=True)
        return self._in_ledger(known, deadline_ms)

    def _in_ledger(self, known: answers.Look, deadline_ms: int) -> Open | Ended | str:
        if known.outcome:
            outcome = decode_as(known.outcome, RequestFinished)
            return Ended(end_in_outcome(outcome), is_on_bus=False)
        if known.state == "RUNNING":
            return Open("running")
        if known.state == "RESERVED" or (not known.state and self.clock.now_ms() < deadline_ms):
            return Open("queued")
        implied = end_by_state(known.state)
        return known.state if implied is None else Ended(implied, is_on_bus=False)


def _in_log(log: Found, request_id: str, state: str, *, is_early: bool) -> Memory:
    outcome = log.outcomes.get(request_id)
    if outcome is not None:
        return Ended(end_in_outcome(outcome), is_on_bus=False)
    if not log.is_complete:
        return Unsure()
    if is_early:
        return Open("queued")  # It was decided just now, and its end is on its way to the log.
    if state:
        return Ended(error_end(ErrorCode.RESULT_LOST), is_on_bus=False)
    return NeverRan()
