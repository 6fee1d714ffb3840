"""Closes attempts in the ledger, and says which ones stand there when somebody else did.

A ledger that is away is asked until it answers; one that says that it is closed is not waited for: the outcome
says then that nothing was settled, and whoever books it settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher.attempts.history import AttemptHistory
from dispatcher.claims.claiming import AS_LONG_AS_IT_TAKES_S
from dispatcher.claims.leases import Running
from schemas.events import Attempt
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.retry import retry_until


@dataclass(slots=True)
class Settling:
    """Asks one ledger."""

    ledger: LedgerClient
    clock: Clock

    async def finish(
        self, running: Running, document: documents.Finish, encoded: bytes
    ) -> answers.FinishAnswer | None:
        """What the ledger says to the end; ``None`` when it is closed. One that was rebuilt is told first
        what runs here.

        Raises ``LedgerUnavailable`` when it stayed away for an hour.
        """

        async def ask() -> answers.FinishAnswer:
            return await self._finish(running, document, encoded)

        until_s = self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S
        try:
            return await retry_until(ask, LedgerUnavailable, until_s, unless=LedgerNotReady)
        except LedgerNotReady:
            return None

    async def _finish(
        self, running: Running, document: documents.Finish, encoded: bytes
    ) -> answers.FinishAnswer:
        answer = await self.ledger.finish(document, encoded)
        if not isinstance(answer, answers.Gone):
            return answer
        attached = await self.ledger.attach(running.attachment())
        if isinstance(attached, answers.Gone):
            # Past its deadline, and not known: booking finds out whether it was, and books it late.
            return answer
        return await self.ledger.finish(document, encoded)


@dataclass(frozen=True, slots=True)
class Correction:
    """What to take back of the books, and what to put there instead."""

    booked: Sequence[Attempt]
    attempts: Sequence[Attempt]


def correction_of(running: Running, history: AttemptHistory, lost: Sequence[Attempt]) -> Correction:
    """What to correct when an attempt ends that is not this process's any more, and ``lost`` were written off.

    The first of two was settled by its failover, unless a ledger that was rebuilt meanwhile never knew.
    """
    ran = history.attempts[1:] if history.has_lost_first else history.attempts
    numbers = {running.attempt, *(attempt.attempt for attempt in ran)}
    booked = [attempt for attempt in lost if attempt.attempt in numbers]
    if all(attempt.attempt == 1 for attempt in booked):
        return Correction(booked, ran)
    return Correction(booked, [history.current] if history.current else [])
