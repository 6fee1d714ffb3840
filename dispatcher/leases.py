"""Keeps the leases of all running attempts of this process alive, in one round trip per period."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from dispatcher.attempt import Abort
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.ledger.errors import LedgerUnavailable

_LOG = logging.getLogger(__name__)

LEASE_MS = 10_000
_PERIOD_S = 3.0


@dataclass(slots=True)
class Running:
    """A running attempt: its claim, and how to end it."""

    org: str
    request_id: str
    fence: int
    abort: Abort
    streamed: bool = False

    def renewal(self) -> documents.Renew:
        """The heartbeat of this attempt."""
        return documents.Renew(
            org=self.org,
            req=self.request_id,
            fence=self.fence,
            lease_ms=LEASE_MS,
            streamed=self.streamed,
        )


@dataclass(slots=True)
class Leases:
    """The attempts this process runs, by request id."""

    ledger: LedgerClient
    running: dict[str, Running] = field(default_factory=dict)

    async def keep(self) -> None:
        """Renew every lease each three seconds, for ever."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            attempts = list(self.running.values())
            if not attempts:
                continue
            try:
                replies = await self.ledger.renew_many([a.renewal() for a in attempts])
            except LedgerUnavailable as error:
                _LOG.warning("leases not renewed: %r", error)
                continue
            for attempt, reply in zip(attempts, replies, strict=True):
                if self.running.get(attempt.request_id) is attempt:
                    self._obey(attempt, reply)

    async def note_streamed(self, attempt: Running) -> bool:
        """Tell the ledger that content is about to leave; False when the claim is lost."""
        attempt.streamed = True
        reply = await self.ledger.renew(attempt.renewal())
        self._obey(attempt, reply)
        return isinstance(reply, answers.Ok | answers.Cancelled)

    def _obey(self, attempt: Running, reply: answers.RenewAnswer) -> None:
        match reply:
            case answers.Cancelled():
                attempt.abort.end("cancelled")
            case answers.Stale():
                attempt.abort.end("stale")
            case answers.Ok() | answers.Gone():
                return
