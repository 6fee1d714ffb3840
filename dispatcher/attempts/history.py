"""Keeps what became of a request so far: its attempts, and how it ends. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from dispatcher.amounts import actual_of, written_off_attempt
from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.work import AdmittedRequest, Result
from schemas.errors import ErrorCode
from schemas.events import Attempt
from schemas.ledger import documents

__all__ = ["BROKEN", "AttemptHistory"]

BROKEN: Final = Result("failed", ErrorCode.INTERNAL_ERROR)
"""How a request ends of which nothing better is known."""


class AttemptHistory(msgspec.Struct):
    """What became of a request so far."""

    attempts: list[Attempt] = msgspec.field(default_factory=list)
    current: Attempt | None = None
    """The attempt that ran under the fence that is held now."""
    ending: Result = BROKEN
    has_lost_first: bool = False
    """Whether the first attempt was another process's, which vanished."""

    @classmethod
    def after(cls, job: AdmittedRequest, claim_attempt: int) -> AttemptHistory:
        """Where a claim begins: a second attempt follows one that was given up and booked whole."""
        if claim_attempt == 1:
            return cls()
        return cls([written_off_attempt(job, 1)], has_lost_first=True)

    def ran(self, result: AttemptResult) -> None:
        """One more attempt under the fence that is held now."""
        self.attempts.append(result.attempt)
        self.current, self.ending = result.attempt, result.ending

    def broke(self, job: AdmittedRequest) -> None:
        """Nobody can tell what the attempt under the running fence used: its whole hold, then."""
        self.ending = BROKEN
        if (last := self.current) is not None:
            self.current = written_off_attempt(job, last.attempt)
            self.attempts = [*(each for each in self.attempts if each is not last), self.current]

    @property
    def actual(self) -> dict[documents.Unit, int | None]:
        """What the fence that is held now was used for. The request counts once: a given-up
        attempt was booked with it."""
        requests = 1 if self.attempts and not self.has_lost_first else 0
        return dict(actual_of(self.current, requests=requests))
