"""Claims requests in the ledger: asks until there is a verdict, however long the ledger is away.

A claim whose answer was lost may hold, so nobody lets go of a request before the ledger has said what
became of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from dispatcher.work import AdmittedRequest
from schemas.events import Hold, RequestAccepted
from schemas.hold_facts import info_of
from schemas.ledger import answers, documents, keys
from schemas.ledger.errors import LedgerUnavailable
from schemas.ledger.owners import owner_of
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.process.retry import retry_until
from schemas.times import FULL

AS_LONG_AS_IT_TAKES_S: Final = 3_600.0
"""What was decided or spent must be known and written down; then the process ends, and its records are
delivered again. Mostly the watchdog ends such a wait earlier."""
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

    async def claim(
        self,
        job: AdmittedRequest,
        has_ended: Callable[[AdmittedRequest], Awaitable[bool]],
        is_fresh: Callable[[], bool] = lambda: False,
    ) -> answers.StartAnswer:
        """The verdict; a claim held by another process is looked at again when its lease ends.

        What a rebuilt ledger found open is ours at once while it ``is_fresh``: nobody else was given the
        record. Else its owner has two leases to come back, and then the log says whether it ended.

        Past its deadline a request that the ledger does not know may be forgotten and not lost: ``has_ended``
        asks the log first, and ``Gone`` then says that it is over. Kept as refused, it would give its
        idempotency key away, and another would run in its place.

        Raises ``LedgerUnavailable`` when the ledger stayed away for an hour.
        """
        readmit = asked = False
        owner = owner_of(self.instance_id, random_bytes(6))
        while True:
            claim = _claim_of(job, owner, self.lease_ms, readmit=readmit, asked=asked)
            verdict = await self._start(claim, is_fresh)
            match verdict:
                case answers.Busy(owner=holder, fence=fence, attempt=number) if holder == owner:
                    # The first try went through, only its answer was lost.
                    return answers.Fence(fence=fence, attempt=number)
                case answers.Busy(ms=wait_ms):
                    await asyncio.sleep(_pause_s(wait_ms, self.lease_ms))
                case answers.Restored():
                    if await has_ended(job):
                        return answers.Gone()
                    asked = True
                case answers.Gone() if not readmit:
                    is_past = self.clock.now_ms() >= job.request.deadline_ms
                    if is_past and await has_ended(job):
                        return verdict
                    readmit = True
                case _:
                    return verdict

    async def withdraw(self, job: AdmittedRequest) -> answers.CancelAnswer:
        """End a request that nobody has begun; what the answer says otherwise stands."""
        request = job.request
        document = documents.Cancel(
            org=request.org, req=request.request_id, deadline_ms=job.deadline_ms
        )
        return await retry_until(
            lambda: self.ledger.cancel(document), LedgerUnavailable, self._until_s()
        )

    async def look(self, job: AdmittedRequest) -> answers.Look:
        """What the ledger knows of the request."""
        document = documents.Look(org=job.request.org, req=job.request.request_id)
        return await retry_until(
            lambda: self.ledger.look(document), LedgerUnavailable, self._until_s()
        )

    async def _start(
        self, claim: documents.Start, is_fresh: Callable[[], bool]
    ) -> answers.StartAnswer:
        """Each try says anew whether it is fresh: it may not be any more after a long wait."""
        return await retry_until(
            lambda: self.ledger.start(msgspec.structs.replace(claim, fresh=is_fresh())),
            LedgerUnavailable,
            self._until_s(),
        )

    def _until_s(self) -> float:
        return self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S


def _pause_s(left_ms: int, lease_ms: int) -> float:
    """Until the other's lease ends, and a little longer: many may wait for the same moment."""
    left_s = max(_PAUSE_MIN_S, min(left_ms, lease_ms) / 1000 + _AFTER_LEASE_S)
    return left_s * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311  # jitter, no secret


def _claim_of(
    job: AdmittedRequest,
    owner: str,
    lease_ms: int,
    *,
    readmit: bool,
    asked: bool,
) -> documents.Start:
    request = job.request
    # Nobody remembers whether the client of a restored stream has seen a byte: no second attempt then.
    may_repeat = not (asked and request.stream)
    return documents.Start(
        org=request.org,
        req=request.request_id,
        owner=owner,
        lease_ms=lease_ms,
        second_attempt=balances(job) if may_repeat else None,
        readmit=readmission(job) if readmit else None,
        asked=asked,
    )


def readmission(job: AdmittedRequest) -> documents.Readmission:
    """All that admission had left beside the request, for a ledger that was rebuilt without it."""
    request = job.request
    return documents.Readmission(
        deadline_ms=job.deadline_ms,
        accepted_ms=request.accepted_at_ms,
        balances=balances(job),
        leases=_leases(request),
        info=info_of(request, job.admitted.accepted_ref).encoded(),
    )


def _leases(request: RequestAccepted) -> tuple[documents.Lease, ...]:
    """A place in every scope of the request: where none is counted, one more does no harm."""
    named = (("project", request.project), ("key", request.key_id), ("user", request.user))
    scopes = [keys.ORG_SCOPE, *(keys.scope(kind, name) for kind, name in named if name)]
    return tuple(documents.Lease(key=keys.lease_suffix(scope)) for scope in scopes)


def balances(job: AdmittedRequest) -> tuple[documents.Balance, ...]:
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
