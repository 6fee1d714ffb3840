"""The list of jobs in the ledger, where the jobs of an organization are found for three days."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from ingress.http.refusals import Refusal, too_many
from schemas.errors import ErrorCode
from schemas.ids import uuid7_time_ms
from schemas.job_facts import JobFacts
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.retry import retry_until

_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class JobList:
    """Lists jobs, ``jobs_max`` of an organization at most."""

    ledger: LedgerClient
    jobs_max: int

    def life(self, org: str) -> int:
        """Which life of the ledger the list is in, as far as the log has announced it."""
        return self.ledger.epoch_of(org)

    async def add(self, org: str, request_id: str, facts: JobFacts) -> Refusal | None:
        """List a job, once however often it is called; 503 while the ledger is away, 429 when
        the organization has as many as are remembered."""
        document = documents.Job(
            org=org,
            req=request_id,
            created_ms=uuid7_time_ms(request_id),
            info=facts.encoded(),
            limit=self.jobs_max,
        )

        async def ask() -> answers.JobAnswer:
            return await self.ledger.job(document)

        try:
            answer = await retry_until(
                ask, LedgerUnavailable, time.monotonic() + _WITHIN_S, unless=LedgerNotReady
            )
        except LedgerUnavailable:
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "No job can be taken now.")
        if isinstance(answer, answers.Limited):
            return too_many(answer, "jobs are remembered; the oldest is forgotten after three days")
        return None
