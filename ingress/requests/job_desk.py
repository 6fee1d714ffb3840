"""Finds jobs for their callers, and cancels them, whatever surface asks.

Jobs of other organizations look like none, and to a user those of others and of programs do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from ingress.requests.cancellations import Cancellations
from ingress.requests.job_document import Job, job_document
from ingress.requests.lookup import RequestLookup
from ingress.requests.request_state import Ended, Indeterminate
from schemas.errors import ErrorCode
from schemas.ids import uuid7_time_ms
from schemas.job_facts import JobFacts, read_facts
from schemas.ledger import documents
from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.runtime.ledger.client import LedgerClient

__all__ = ["AWAY", "JobDesk", "is_job_id"]

AWAY: Final = Refusal(ErrorCode.SERVICE_UNAVAILABLE, "What became of it cannot be told now.")


@dataclass(frozen=True, slots=True)
class JobDesk:
    """Where one job is asked for."""

    ledger: LedgerClient
    lookup: RequestLookup
    cancellations: Cancellations

    async def find(self, caller: Caller, job_id: str, *, is_cancelled: bool) -> Job | Refusal:
        """The job as it is now, having been cancelled where that is asked for; 404 where the caller has none of this id."""
        try:
            facts = await self.facts(caller, job_id)
            if facts is None:
                return Refusal(ErrorCode.NOT_FOUND, "There is no such job.")
            if is_cancelled:
                await self.cancellations.cancel(caller.org, job_id, facts.deadline_ms)
            found = await self.lookup.find(caller.org, job_id, facts.deadline_ms)
            if isinstance(found, Ended) and found.is_in_pieces:
                found = await self._whole(caller.org, job_id, found)
        except LedgerUnavailable:
            return AWAY
        return AWAY if isinstance(found, Indeterminate) else job_document(job_id, facts, found)

    async def _whole(self, org: str, job_id: str, found: Ended) -> Ended | Indeterminate:
        """With the answer that its outcome keeps, where it does."""
        kept = await self.lookup.kept(org, job_id)
        if kept is None or isinstance(kept, Indeterminate) or kept.terminal.error_code is not None:
            return kept if isinstance(kept, Indeterminate) else found
        return Ended(kept.terminal, is_on_bus=False)

    async def facts(self, caller: Caller, job_id: str) -> JobFacts | None:
        """What is kept of a job; ``None`` when the caller has none of this id. Raises
        ``LedgerUnavailable`` while that cannot be told."""
        if not is_job_id(job_id):
            return None
        known = await self.ledger.look(documents.Look(org=caller.org, req=job_id))
        if known.job is None and known.kept_missing:
            raise LedgerNotReady("jobs are not back yet")
        facts = None if known.job is None else read_facts(known.job)
        return facts if facts is not None and facts.is_open_to(caller.owner) else None


def is_job_id(text: str) -> bool:
    """Whether the text can be the id of a job."""
    try:
        uuid7_time_ms(text)
    except ValueError:
        return False
    return True
