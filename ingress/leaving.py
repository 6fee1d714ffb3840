"""Leaving: how ingress ends without cutting anybody off.

Readiness says so first, while everybody is still served for as long as whoever distributes requests needs to notice. Then
nobody new is accepted; whoever is connected is answered, and told with that answer to connect elsewhere. What
runs longer than the platform's patience ends with a typed error, in a stream as its last event, and what has
no key is cancelled: a client that cannot come back for its answer would pay for it in vain. What is not even
waiting for an answer by then, as it reads a body or looks for its key, is cut short with the same error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.front_server import FrontServer
from ingress.replies.mailbox import PendingRequests
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_LINGER_S: Final = 1.0
"""Long enough for clients that keep connections to send the next request and be told."""
_LAST_WORDS_S: Final = 2.0
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Leaving:
    """Takes the public server down; everything else still works meanwhile."""

    gatekeeper: Gatekeeper
    pending: PendingRequests
    server: FrontServer
    patience_s: float
    notice_s: float = 0.0
    """How long whoever connects is served after readiness has said that this process leaves."""

    async def run(self) -> None:
        """Returns once nothing is under way, or everything was given up."""
        gatekeeper, requests = self.gatekeeper, self.gatekeeper.shares
        gatekeeper.is_leaving = True
        await asyncio.sleep(self.notice_s)
        self.server.stop_listening()
        await _until(lambda: not self.server.has_connections(), _LINGER_S)
        if await _until(lambda: not requests.requests, self.patience_s - _LINGER_S):
            return
        _LOG.event(LogEvent.GIVEN_UP, count=requests.requests)
        gatekeeper.is_open = False
        self.pending.abandon()
        if not await _until(lambda: not requests.requests, _LAST_WORDS_S):
            self.server.end_requests()
            await _until(lambda: not requests.requests, _LAST_WORDS_S)


async def _until(is_so: Callable[[], bool], within_s: float) -> bool:
    """Whether it came to be so in time."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + within_s
    while not is_so() and loop.time() < give_up_s:  # noqa: ASYNC110  # of many things, none an event
        await asyncio.sleep(_LOOK_S)
    return is_so()
