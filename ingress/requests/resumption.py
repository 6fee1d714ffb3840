"""Has a stream go on after the last event that its client has: nothing is produced, and nothing billed again.

Whoever shows the id of an event posts the same body once more, to any ingress; from it comes only the form of the
answer. All frames are read again from the bus, as long as it has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from ingress.http.event_ids import EventId
from ingress.http.refusals import Refusal
from ingress.requests.lookup import RequestLookup
from schemas.errors import ErrorCode
from schemas.frames import Frame
from schemas.ids import uuid7_time_ms
from schemas.ledger import documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_UNKNOWN: Final = Refusal(ErrorCode.NOT_FOUND, "There is no such stream.", param="Last-Event-ID")
_AWAY: Final = Refusal(ErrorCode.SERVICE_UNAVAILABLE, "What became of it cannot be told now.")
_EXPIRED: Final = Refusal(
    ErrorCode.RESULT_EXPIRED,
    "The stream is not kept any more; the request was billed for what it used.",
)


class Frames(Protocol):
    """The bus, as far as it is read here."""

    async def read(self, request_id: str, after: str, count: int = 256) -> list[Frame]:
        """Frames after a stream id."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """Finds out whether a stream can go on."""

    ledger: LedgerClient
    lookup: RequestLookup
    bus: Frames

    async def refuse(self, org: str, event: EventId) -> Refusal | None:
        """Why it cannot; streams of other organizations look like none."""
        try:
            uuid7_time_ms(event.request_id)
        except ValueError:
            return _UNKNOWN
        try:
            if not await self._is_of(org, event.request_id):
                return _UNKNOWN
            first = await self.bus.read(event.request_id, "0-0", 1)
        except (LedgerUnavailable, StoreUnavailable, StoreError):
            return _AWAY
        if event.seq == 0:
            # It came before all frames, of which there may be none yet.
            return _EXPIRED if first and first[0].seq > 1 else None
        is_whole = bool(first) and first[0].seq == 1 and first[0].fence <= event.fence
        return None if is_whole else _EXPIRED

    async def _is_of(self, org: str, request_id: str) -> bool:
        """The ledger knows it for a while, the log for as long as it is kept."""
        known = await self.ledger.look(documents.Look(org=org, req=request_id))
        if known.state or known.outcome or known.booked:
            return True
        return await self.lookup.is_decided_from_log(org, request_id)
