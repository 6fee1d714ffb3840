"""Tells the events of a response that runs in the background to whoever comes for them, while it runs and for a while after.

Who comes takes of its rate and holds a place of its organization as a request does, because all events are made anew, but
begins nothing: no log, no backend and no bill hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from ingress.apis.native.said import NOT_A_COMPLETION
from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.apis.openai.responses.resume import EventsAsked
from ingress.auth.caller import Caller
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.event_ids import EventId
from ingress.http.refusals import Headers, Refusal
from ingress.http.request import resumed_of
from ingress.http.responses import refuse, respond, until_gone
from ingress.replies.awaited import Awaited, Times
from ingress.replies.background_stream import BackgroundStream
from ingress.replies.mailbox import Mailbox, PendingRequests
from ingress.requests.begin import JOB_GRACE_S
from ingress.requests.following import NO_RESPONSE, Followed, Following, Kept, known_end
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.frames import Terminal
from schemas.operations import RESPONSES
from schemas.responses import request_id_of

__all__ = ["ResponseStreams"]

STREAMS_MAX: Final = 32
"""Of one response at once, the one that its creator has among them."""
_RETRY_MS: Final = 1_000
_NOT_CACHED: Final[Headers] = [(b"cache-control", b"no-cache, no-transform")]
_OF_ANOTHER: Final = Refusal(
    ErrorCode.INVALID_REQUEST,
    "Last-Event-ID must be the id of an event of this response.",
    param="Last-Event-ID",
)


@dataclass(frozen=True, slots=True)
class ResponseStreams:
    """Streams of responses that others began."""

    gatekeeper: Gatekeeper
    following: Following
    pending: PendingRequests
    longest_s: float
    """How long one may last: as long as a request runs at most, so that only flex outlasts it, and what has ended can be
    read slowly."""

    async def __call__(
        self, response_id: str, asked: EventsAsked, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one client: with events, or with why there are none."""
        state = scope["state"]
        caller = await self.gatekeeper.caller(scope, RESPONSES.scope)
        refusal = caller if isinstance(caller, Refusal) else None
        if isinstance(caller, Caller):
            refusal = await self._tell(caller, response_id, asked, scope, receive, send)
        if refusal is not None:
            await refuse(send, refusal, RESPONSES.surface, state, [])

    async def _tell(
        self,
        caller: Caller,
        response_id: str,
        asked: EventsAsked,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> Refusal | None:
        """Tell the events; what comes back is to be refused."""
        request_id = request_id_of(response_id)
        after = _after(request_id, asked, dict(scope["headers"]))
        if isinstance(after, Refusal):
            return after
        keeper, state = self.gatekeeper, scope["state"]
        since_s, snapshot = keeper.clock.monotonic_s(), keeper.config.snapshot
        refusal = keeper.limits.refuse(caller, snapshot, 0, since_s) or keeper.shares.enter(
            caller.org
        )
        if refusal is not None:
            return refusal
        try:
            found = None
            if request_id is not None:
                found = await self.following.find(caller, request_id)
            if request_id is None or found is None:
                return NO_RESPONSE
            if isinstance(found, Refusal):
                return found
            if isinstance(found, Kept):
                return await _tell_kept(request_id, found, after, send)
            return await self._relay(caller, request_id, found, after, state, receive, send)
        finally:
            held_ms = (keeper.clock.monotonic_s() - since_s) * 1_000
            keeper.shares.leave(caller.org, held_ms)

    async def _relay(
        self,
        caller: Caller,
        request_id: str,
        found: Followed,
        after: EventId | int | None,
        state: dict[str, Any],
        receive: Receive,
        send: Send,
    ) -> Refusal | None:
        listening = len(self.pending.waits.get(request_id, ()))
        if listening >= STREAMS_MAX:
            return _too_many(listening)
        org, deadline_ms = caller.org, found.facts.deadline_ms
        form = _form(request_id, found)
        known = partial(known_end, self.following.desk.lookup, org, request_id, deadline_ms)
        mailbox = self._join(Awaited(org, request_id, deadline_ms, is_stream=True), receive)
        try:
            if found.end is not None:
                mailbox.end(found.end)
            await BackgroundStream(mailbox, form, send, [], state, known, after).relay(_nothing)
        finally:
            self.pending.close(mailbox)
        return None

    def _join(self, awaited: Awaited, receive: Receive) -> Mailbox:
        now_s = asyncio.get_running_loop().time()
        times = Times(now_s, now_s, now_s + self.longest_s + JOB_GRACE_S)
        return self.pending.join(awaited, partial(until_gone, receive), times)


def _form(request_id: str, found: Followed | Kept) -> ResponseFormat:
    members = bytes(found.shown.members)
    return ResponseFormat(request_id, found.facts.model, members, is_background=True)


async def _tell_kept(
    request_id: str, found: Kept, after: EventId | int | None, send: Send
) -> Refusal | None:
    """The answer, in the event that ends a stream: what came before it is not kept any more."""
    end = _form(request_id, found).kept(found.end, after if isinstance(after, int) else -1)
    if not end:
        return NOT_A_COMPLETION
    await respond(send, 200, b"text/event-stream; charset=utf-8", end, _NOT_CACHED)
    return None


def _after(
    request_id: str | None, asked: EventsAsked, headers: Mapping[bytes, bytes]
) -> EventId | int | Refusal | None:
    """What the client has. Browsers that come back say it in a header, which is newer than their address."""
    resumed = resumed_of(headers)
    if isinstance(resumed, EventId) and resumed.request_id != request_id:
        return _OF_ANOTHER
    return asked.after if resumed is None else resumed


def _too_many(listening: int) -> Refusal:
    denial = Denial(
        limit_id="response:streams",
        limit_type="rate_limit",
        unit="requests",
        current_usage=listening,
        limit=STREAMS_MAX,
        retry_after_ms=_RETRY_MS,
    )
    message = f"{listening} streams of this response are open here, as many as may be."
    return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message, denial=denial)


async def _nothing(_: Terminal) -> None:
    """Nobody waits for what would be done before the end."""
