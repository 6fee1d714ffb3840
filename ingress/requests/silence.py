"""Asks the ledger about requests that have fallen silent, so that a lost end is found and not waited for.

Frames are sent once and may be lost: with the dispatcher that sent them, with the bus, with a claim. Whoever
hears nothing for two seconds is asked for, all of them in one round trip. Of a request that has ended the
frame has a moment more to come; then its client is told what ledger and log know: the answer, where it
is kept, and else a typed error.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ingress.replies.frame_order import broken_off
from ingress.replies.mailbox import Mailbox, PendingRequests
from ingress.requests.lookup import RequestLookup
from ingress.requests.outcomes import without_frames
from ingress.requests.request_state import Ended
from schemas.errors import ErrorCode
from schemas.failures import Failure
from schemas.frames import Terminal
from schemas.ledger import answers, documents
from schemas.ledger.states import UNDER_WAY
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog, of_request

_LOG = EventLog(__name__)

_PERIOD_S: Final = 0.25
_AGAIN_S: Final = 5.0
_GRACE_S: Final = 1.5
"""How long after an end was found its frame may still come."""
_ASKED_AT_ONCE: Final = 128
_FOUND_AT_ONCE: Final = 64


@dataclass(slots=True)
class Silence:
    """Looks after silent waits, a bounded number at a time."""

    pending: PendingRequests
    ledger: LedgerClient
    lookup: RequestLookup
    _finding: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """For ever, four times a second."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            await self.ask(asyncio.get_running_loop().time())

    async def ask(self, now_s: float) -> None:
        """Ask for those that are due at ``now_s``; a ledger that is away is asked again later."""
        silent = list(islice(self.pending.silent(now_s), _ASKED_AT_ONCE))
        if not silent:
            return
        for mailbox in silent:
            mailbox.ask_at_s = now_s + _AGAIN_S
        asked = [mailbox for mailbox in silent if mailbox.ended_s is None]
        looks = await self.ledger.look_many([_look_of(mailbox) for mailbox in asked])
        for mailbox, look in zip(asked, looks, strict=True):
            if not isinstance(look, Failure) and _has_ended(look):
                mailbox.ended_s = now_s
                mailbox.ask_at_s = now_s + _GRACE_S
                mailbox.ask_for_stream()
        for mailbox in silent:
            if mailbox.ended_s is not None and mailbox.ended_s < now_s:
                self._begin(mailbox)

    def _begin(self, mailbox: Mailbox) -> None:
        if len(self._finding) < _FOUND_AT_ONCE:
            task = asyncio.create_task(self._find(mailbox))
            self._finding.add(task)
            task.add_done_callback(self._finding.discard)

    async def _find(self, mailbox: Mailbox) -> None:
        """End the wait with what is known of the end; one that is not known yet is asked for again."""
        awaited = mailbox.awaited
        try:
            found = await self.lookup.find(awaited.org, awaited.request_id, awaited.deadline_ms)
        except Failure as failure:
            _LOG.event(LogEvent.END_UNKNOWN, **of_request(awaited), error=failure)
            return
        if not isinstance(found, Ended) or not mailbox.is_silent:
            return
        if found.is_on_bus:
            mailbox.ask_for_stream()
            return
        end = _end_of(mailbox, found)
        # While the bus is away, an answer that only it has is not lost yet.
        if not _is_loss(found, end) or mailbox.read_s > (mailbox.ended_s or 0.0):
            _LOG.event(LogEvent.END_NOT_HEARD, **of_request(awaited))
            mailbox.end(end)


def _look_of(mailbox: Mailbox) -> documents.Look:
    return documents.Look(org=mailbox.awaited.org, req=mailbox.awaited.request_id)


def _has_ended(look: answers.Look) -> bool:
    return look.state not in UNDER_WAY


def _end_of(mailbox: Mailbox, ended: Ended) -> Terminal:
    is_stream = mailbox.awaited.is_stream
    if is_stream and ended.terminal.error_code is None and mailbox.position.has_content:
        return broken_off()
    return without_frames(ended.terminal, is_stream=is_stream)


def _is_loss(ended: Ended, end: Terminal) -> bool:
    return end is not ended.terminal or end.error_code == ErrorCode.RESULT_LOST
