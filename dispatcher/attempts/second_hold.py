"""Asks the ledger for the hold of a second attempt, and tells it what the first one cost."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcher.amounts import actual_of
from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.claims.claiming import AS_LONG_AS_IT_TAKES_S, balances
from dispatcher.claims.leases import Running
from dispatcher.work import AdmittedRequest
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.retry import retry_until

__all__ = ["SecondHolds", "first_attempt"]


@dataclass(slots=True)
class SecondHolds:
    """Asks one ledger."""

    ledger: LedgerClient
    clock: Clock

    async def take(
        self, job: AdmittedRequest, running: Running, first: AttemptResult
    ) -> answers.NextAttemptAnswer:
        """The ledger's verdict on a second attempt; when the first cannot have spent, its hold
        moves. Asked until answered, because a verdict that got lost may have moved it already. One that
        was rebuilt meanwhile is told of the first before."""
        document = documents.NextAttempt(
            org=job.request.org,
            req=job.request.request_id,
            fence=running.fence,
            may_have_spent=first.may_have_spent,
            second=balances(job),
            estimate=actual_of(first.attempt, requests=0),
        )

        async def ask() -> answers.NextAttemptAnswer:
            verdict = await self.ledger.next_attempt(document)
            if not isinstance(verdict, answers.Gone):
                return verdict
            attached = await self.ledger.attach(running.attachment())
            if isinstance(attached, answers.Gone | answers.Stale):
                return attached
            return await self.ledger.next_attempt(document)

        until_s = self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S
        return await retry_until(ask, LedgerUnavailable, until_s)


def first_attempt(fence: int, result: AttemptResult) -> documents.FirstAttempt:
    """What the first attempt cost, as the ledger settled it."""
    spent = result.attempt if result.may_have_spent else None
    return documents.FirstAttempt(
        verdict="FAILED", fence=fence, actual=dict(actual_of(spent, requests=0))
    )
