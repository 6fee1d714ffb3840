"""Places accepted requests in the log, and jobs also in the list of their organization.

A job counts as taken once the broker has acknowledged it; then nothing that dies can lose it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import msgspec

from ingress.http.refusals import Refusal, too_many
from ingress.requests.accepted import PRODUCE_WITHIN_MS
from ingress.requests.cancellations import Cancellations
from ingress.requests.job_document import JobFacts
from ingress.settings import MIB
from schemas.claim_check import crosses_once
from schemas.errors import ErrorCode
from schemas.events import RecordRef, RequestAccepted
from schemas.failures import Failure
from schemas.ids import uuid7_time_ms
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.outgoing import Headers, accepted_record
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.retry import retry_until
from schemas.runtime.valkey.bodies import Bodies

PAYLOAD_BYTES_MAX: Final = 4 * MIB + 64 * 1024
"""Writing numbers out can lengthen a body; this keeps every record below the topic's limit."""
_LIST_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class RequestPublisher:
    """Produces requests and lists jobs, ``jobs_max`` of an organization at most."""

    producer: Producer
    bodies: Bodies
    ledger: LedgerClient
    cancellations: Cancellations
    clock: Clock
    jobs_max: int

    async def share_body(self, accepted: RequestAccepted) -> None:
        """Put a large body where the dispatcher finds it, before its record can get there."""
        if crosses_once(accepted):
            await self.bodies.put(accepted, self.clock.now_ms())

    def produce(self, accepted: RequestAccepted, headers: Headers) -> asyncio.Future[RecordRef]:
        """Hand the request to the log; the future fails when the broker does not take it."""
        return self.producer.send(accepted_record(accepted, headers))

    async def place_job(self, accepted: RequestAccepted, headers: Headers) -> Refusal | None:
        """List a job and produce it as background work; ``None`` once both are durable, 503 when one
        cannot be had."""
        accepted = msgspec.structs.replace(accepted, background=True)
        facts = JobFacts(accepted.model, accepted.deadline_ms)
        refusal = await self.list_job(accepted.org, accepted.request_id, facts)
        if refusal is not None:
            return refusal
        try:
            async with asyncio.timeout(PRODUCE_WITHIN_MS / 1000):
                await self.share_body(accepted)
                await self.produce(accepted, headers)
        except (Failure, TimeoutError, asyncio.CancelledError) as error:
            # The broker may have it all the same; it must not run after its client was refused.
            self.cancellations.begin(
                accepted.org, accepted.request_id, accepted.deadline_ms, accepted.produce_by_ms
            )
            if isinstance(error, asyncio.CancelledError):
                raise
            message = "The request could not be queued in time."
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, message)
        return None

    async def list_job(self, org: str, request_id: str, facts: JobFacts) -> Refusal | None:
        """List a job, once however often it is called; 503 while the ledger is away, 429 when
        the organization has as many as are remembered."""
        document = documents.Job(
            org=org,
            req=request_id,
            created_ms=uuid7_time_ms(request_id),
            info=msgspec.json.encode(facts).decode(),
            limit=self.jobs_max,
        )

        async def ask() -> answers.JobAnswer:
            return await self.ledger.job(document)

        try:
            answer = await retry_until(ask, LedgerUnavailable, time.monotonic() + _LIST_WITHIN_S)
        except LedgerUnavailable:
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "No job can be taken now.")
        if isinstance(answer, answers.Limited):
            return too_many(answer, "jobs are remembered; the oldest is forgotten after three days")
        return None
