"""Claims requests in the ledger: asks until there is a verdict, or nobody waits for one any more."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from dispatcher.settlement import Job
from schemas.events import Hold
from schemas.runtime.clock import Clock, random_bytes
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.ledger.errors import LedgerUnavailable
from schemas.runtime.retry import retry_until
from schemas.times import FULL

_AFTER_LEASE_S = 0.05
_PAUSE_MIN_S = 0.25
_JITTER = 0.2


@dataclass(slots=True)
class Claiming:
    """Claims in the name of one process."""

    ledger: LedgerClient
    clock: Clock
    instance_id: str
    lease_ms: int = FULL.ledger.attempt_lease_ms

    async def claim(self, job: Job) -> answers.StartAnswer | None:
        """The verdict; a claim held by another process is looked at again when its lease ends.

        ``None`` when the ledger stayed away until the deadline.
        """
        readmit = False
        owner = f"{self.instance_id}/{random_bytes(6).hex()}"
        while True:
            verdict = await self._start(job, owner, readmit=readmit)
            match verdict:
                case answers.Busy(owner=holder, fence=fence, attempt=number) if holder == owner:
                    # The first try went through, only its answer was lost.
                    return answers.Fence(fence=fence, attempt=number)
                case answers.Busy(ms=wait_ms):
                    await asyncio.sleep(_pause_s(wait_ms, self.lease_ms))
                case answers.Gone() if not readmit:
                    readmit = True
                case _:
                    return verdict

    async def _start(self, job: Job, owner: str, *, readmit: bool) -> answers.StartAnswer | None:
        claim = _claim_of(job, owner, self.lease_ms, readmit=readmit)

        async def start() -> answers.StartAnswer:
            return await self.ledger.start(claim)

        left_s = (job.request.deadline_ms - self.clock.now_ms()) / 1000
        try:
            return await retry_until(start, LedgerUnavailable, self.clock.monotonic_s() + left_s)
        except LedgerUnavailable:
            return None


def _pause_s(left_ms: int, lease_ms: int) -> float:
    """Until the other's lease ends, and a little longer: many may wait for the same moment."""
    left_s = max(_PAUSE_MIN_S, min(left_ms, lease_ms) / 1000 + _AFTER_LEASE_S)
    return left_s * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311  # jitter, no secret


def _claim_of(job: Job, owner: str, lease_ms: int, *, readmit: bool) -> documents.Start:
    request = job.request
    holds = balances(job)
    readmission = documents.Readmission(
        deadline_ms=request.deadline_ms, accepted_ms=request.accepted_at_ms, balances=holds
    )
    return documents.Start(
        org=request.org,
        req=request.request_id,
        owner=owner,
        lease_ms=lease_ms,
        second_attempt=holds,
        readmit=readmission if readmit else None,
    )


def balances(job: Job) -> tuple[documents.Balance, ...]:
    """The holds of the request, as the ledger takes them."""
    return tuple(_balance(hold) for hold in job.admitted.holds)


def _balance(hold: Hold) -> documents.Balance:
    return documents.Balance(
        key=hold.key,
        unit=hold.unit,  # type: ignore[arg-type]  # the schema says string, the limiter wrote a unit
        amount=hold.amount,
        limit=hold.limit,
        start_ms=hold.start_ms,
        end_ms=hold.end_ms or None,
    )
