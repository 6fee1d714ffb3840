"""Cancels requests: a tombstone in the ledger, and a ring at the door of whoever runs them.

Cancellations that nobody waits for run beside the requests, bounded in number and time. One that
fails costs nothing but work: the hold returns when the request ends or expires.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.retry import retry_until
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

CANCEL_WITHIN_S: Final = 2.0
_AT_ONCE: Final = 8_192
"""More than may wait here: at the end of the process all that have no key are cancelled at once."""


class CancelSignal(Protocol):
    """The bus, as far as it is used here."""

    async def tell_cancelled(self, owner: str, request_id: str) -> None:
        """Tell the owner of a running attempt."""


class Cancellations:
    """Cancels now (``cancel``) or beside the caller (``begin``)."""

    def __init__(self, ledger: LedgerClient, cancel_signal: CancelSignal) -> None:
        self._ledger = ledger
        self._cancel_signal = cancel_signal
        self._tasks: set[asyncio.Task[None]] = set()

    async def cancel(
        self, org: str, request_id: str, deadline_ms: int, incarnation_ms: int | None = None
    ) -> answers.CancelAnswer:
        """Cancel one incarnation, by its ``produce_by_ms``, or whatever runs.

        Raises ``LedgerUnavailable`` after two seconds.
        """
        document = documents.Cancel(
            org=org, req=request_id, deadline_ms=deadline_ms, incarnation_ms=incarnation_ms
        )

        async def ask() -> answers.CancelAnswer:
            return await self._ledger.cancel(document)

        answer = await retry_until(ask, LedgerUnavailable, time.monotonic() + CANCEL_WITHIN_S)
        if isinstance(answer, answers.Running):
            try:
                await self._cancel_signal.tell_cancelled(answer.owner, request_id)
            except (StoreUnavailable, StoreError) as error:
                # The flag in the ledger stays; the owner sees it when it renews its lease.
                _LOG.event(LogEvent.CANCEL_NOT_HEARD, request_id=request_id, org=org, error=error)
        return answer

    def begin(self, org: str, request_id: str, deadline_ms: int, incarnation_ms: int) -> None:
        """Cancel in the background what this process produced and gave up: another that produced the
        same request again goes on."""
        if len(self._tasks) >= _AT_ONCE:
            _LOG.event(LogEvent.NOT_CANCELLED, request_id=request_id, org=org, cause="too many")
            return
        task = asyncio.create_task(
            self._cancel_quietly(org, request_id, deadline_ms, incarnation_ms)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for those under way, each of which ends within its deadline."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * CANCEL_WITHIN_S)

    async def _cancel_quietly(
        self, org: str, request_id: str, deadline_ms: int, incarnation_ms: int
    ) -> None:
        try:
            async with asyncio.timeout(2 * CANCEL_WITHIN_S):
                await self.cancel(org, request_id, deadline_ms, incarnation_ms)
        except (LedgerUnavailable, TimeoutError) as error:
            _LOG.event(LogEvent.NOT_CANCELLED, request_id=request_id, org=org, error=error)
