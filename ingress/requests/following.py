"""Finds out whether the events of a response that runs in the background can be told, to whoever names it at any ingress.

They are made of its frames, as long as the bus has them; afterwards the kept answer is told, in one. What the response repeats
of its request comes with its frames; before, the response is told without it, as one that is polled. A stranger's response looks
like none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingress.apis.openai.responses.shown import NOTHING_SHOWN, Shown, shown_in
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from ingress.requests.conversations import Conversations, StoredResponse
from ingress.requests.job_desk import AWAY, JobDesk
from ingress.requests.lookup import RequestLookup
from ingress.requests.outcomes import error_end
from ingress.requests.request_state import Ended, Indeterminate, KeptRequest, NeverRan, Open
from ingress.requests.resumption import Frames
from schemas.errors import ErrorCode
from schemas.frames import Started, Terminal
from schemas.job_facts import JobFacts
from schemas.ledger.errors import LedgerUnavailable
from schemas.operations import RESPONSES
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

__all__ = ["NO_RESPONSE", "Followed", "Following", "Kept", "known_end"]

NO_RESPONSE: Final = Refusal(
    ErrorCode.NOT_FOUND,
    "There is no such response: they are kept for 72 hours, once they have ended, unless store is false.",
)

_NOT_STREAMED: Final = Refusal(
    ErrorCode.INVALID_REQUEST,
    "Only a response that was created with background=true and stream=true can be streamed: poll this one without stream.",
    param="stream",
)
_EXPIRED: Final = Refusal(
    ErrorCode.RESULT_EXPIRED,
    "Neither the events nor the answer of the response are kept any more.",
)
_WITH_EVENTS: Final = frozenset({None, ErrorCode.UPSTREAM_INTERRUPTED, ErrorCode.RESULT_LOST})
"""Ends before which there may have been events of content, also where nobody knows what was used."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A response whose events can be told."""

    facts: JobFacts
    shown: Shown
    """Nothing where it comes with frames that are not there yet."""
    end: Terminal | None = None
    """Of one that ended without a call of a backend: the bus need not have it any more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A response whose events are gone, and whose answer is kept."""

    facts: JobFacts
    shown: Shown
    end: Terminal


@dataclass(frozen=True, slots=True)
class Following:
    """Looks for responses that can be followed."""

    desk: JobDesk
    conversations: Conversations
    bus: Frames

    async def find(self, caller: Caller, request_id: str) -> Followed | Kept | Refusal | None:
        """The response of a request; ``None`` where the caller has none of this id."""
        try:
            facts = await self.desk.facts(caller, request_id)
            if facts is None:
                stored = await self.conversations.find(caller, request_id)
                return _NOT_STREAMED if isinstance(stored, StoredResponse) else stored
            if facts.events_of != RESPONSES.name:
                return _NOT_STREAMED
            return await self._find(caller, request_id, facts)
        except (LedgerUnavailable, StoreUnavailable, StoreError):
            return AWAY

    async def _find(
        self, caller: Caller, request_id: str, facts: JobFacts
    ) -> Followed | Kept | Refusal:
        first = await self.bus.read(request_id, "0-0", 1)
        is_cut = bool(first) and first[0].seq > 1
        if first and not is_cut and isinstance(first[0].content, Started):
            return Followed(facts, shown_in(first[0].content.shown) or NOTHING_SHOWN)
        match await self.desk.lookup.find(caller.org, request_id, facts.deadline_ms):
            case Indeterminate():
                return AWAY
            case Open():
                return _EXPIRED if is_cut else Followed(facts, NOTHING_SHOWN)
            case NeverRan():
                return Followed(facts, NOTHING_SHOWN, error_end(ErrorCode.DEADLINE_EXCEEDED))
            case Ended(terminal=end, is_on_bus=is_on_bus):
                has_events = end.usage is not None or end.error_code in _WITH_EVENTS
                is_gone = is_cut or (has_events and not is_on_bus)
                return await self._ended(
                    caller, request_id, facts, None if is_on_bus else end, is_gone=is_gone
                )

    async def _ended(
        self,
        caller: Caller,
        request_id: str,
        facts: JobFacts,
        end: Terminal | None,
        *,
        is_gone: bool,
    ) -> Followed | Kept | Refusal:
        """One that has ended: of its frames, of what is kept, or gone."""
        kept = await self.desk.lookup.kept(caller.org, request_id)
        if not isinstance(kept, KeptRequest):
            if not is_gone:
                return Followed(facts, NOTHING_SHOWN, end)
            return _EXPIRED if kept is None else AWAY
        shown = shown_in(kept.accepted.shown) or NOTHING_SHOWN
        if not is_gone:
            return Followed(facts, shown, end)
        has_answer = kept.terminal.error_code is None and kept.terminal.body
        return Kept(facts, shown, kept.terminal) if has_answer else _EXPIRED


async def known_end(
    lookup: RequestLookup, org: str, request_id: str, deadline_ms: int
) -> Terminal | None:
    """The error with which a request ended; ``None`` where it has not, or has an answer, or nobody can tell."""
    try:
        found = await lookup.find(org, request_id, deadline_ms)
    except LedgerUnavailable:
        return None
    if isinstance(found, NeverRan):
        return error_end(ErrorCode.DEADLINE_EXCEEDED)
    end = found.terminal if isinstance(found, Ended) else None
    return None if end is None or end.error_code in (None, ErrorCode.RESULT_LOST) else end
