"""Responses that are kept: read again, and those that run in the background polled and cancelled.

These are jobs, told in OpenAI's form; the others are found in the log, once they have ended. Those of other organizations
look like none, and to a user those of others and of programs do. One that has not ended is told without what it repeats of
its request, which only the log has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingress.apis.answer_format import refusal_of
from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.apis.openai.responses.resume import EventsAsked, events_asked
from ingress.apis.openai.responses.shown import NOTHING_SHOWN, shown_in
from ingress.auth.caller import Caller
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.refusals import Refusal
from ingress.http.responses import refusal_response
from ingress.requests.conversations import Conversations, StoredResponse
from ingress.requests.following import NO_RESPONSE
from ingress.requests.job_desk import AWAY, JobDesk
from ingress.requests.job_document import RETRY_AFTER
from ingress.requests.outcomes import error_end, status_of
from ingress.requests.request_state import Ended, Indeterminate, Open, RequestState
from schemas.errors import ErrorCode
from schemas.frames import Terminal
from schemas.job_facts import JobFacts
from schemas.ledger.errors import LedgerUnavailable
from schemas.operations import RESPONSES
from schemas.responses import request_id_of

__all__ = ["ResponseRoutes"]

Streamed: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""What answers by itself."""
TellEvents: TypeAlias = Callable[[str, EventsAsked, Scope, Receive, Send], Awaitable[None]]
"""Tells events of a response."""

_NOT_IN_BACKGROUND: Final = Refusal(
    ErrorCode.INVALID_REQUEST, "Only a response that runs in the background can be cancelled."
)
_LOOKS: Final = 20
_LOOK_EVERY_S: Final = 0.15
"""How often, and how long, it is looked whether what was cancelled has ended."""


class ResponseRoutes:
    """The responses of the caller: a program's are those of its organization."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        desk: JobDesk,
        conversations: Conversations,
        events: TellEvents,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._events = events
        self._desk = desk
        self._conversations = conversations

    async def show(self, request: Request) -> Response | Streamed:
        """One response, as it is now, or its events."""
        asked = events_asked(request.query_params)
        if isinstance(asked, Refusal):
            return refusal_response(request, asked)
        if asked is None or request.method == "HEAD":
            return await self._answer(request, is_cancelled=False)
        return partial(self._events, request.path_params["response_id"], asked)

    async def cancel(self, request: Request) -> Response:
        """Cancel a response; the answer is what it is a moment later."""
        return await self._answer(request, is_cancelled=True)

    async def _answer(self, request: Request, *, is_cancelled: bool) -> Response:
        caller = await self._gatekeeper.caller(request.scope, RESPONSES.scope)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        request_id = request_id_of(request.path_params["response_id"])
        try:
            told = await self._find(caller, request_id, is_cancelled=is_cancelled)
        except LedgerUnavailable:
            told = AWAY
        if isinstance(told, Refusal):
            return refusal_response(request, told)
        return told

    async def _find(
        self, caller: Caller, request_id: str | None, *, is_cancelled: bool
    ) -> Response | Refusal:
        """Raises ``LedgerUnavailable``."""
        desk = self._desk
        facts = None if request_id is None else await desk.facts(caller, request_id)
        if request_id is None:
            return NO_RESPONSE
        if facts is None:
            return await self._stored(caller, request_id, is_cancelled=is_cancelled)
        if is_cancelled:
            await desk.cancellations.cancel(caller.org, request_id, facts.deadline_ms)
        found = await desk.lookup.find(caller.org, request_id, facts.deadline_ms)
        for _ in range(_LOOKS if is_cancelled else 0):
            if not isinstance(found, Open):
                break
            await asyncio.sleep(_LOOK_EVERY_S)
            found = await desk.lookup.find(caller.org, request_id, facts.deadline_ms)
        return await self._told(caller, request_id, facts, found)

    async def _stored(
        self, caller: Caller, request_id: str, *, is_cancelled: bool
    ) -> Response | Refusal:
        """One that somebody waited for."""
        stored = await self._conversations.find(caller, request_id)
        if not isinstance(stored, StoredResponse):
            return stored or NO_RESPONSE
        if is_cancelled:
            return _NOT_IN_BACKGROUND
        kept, members = stored.kept, bytes(stored.shown.members)
        return _json(
            _ended(ResponseFormat(request_id, kept.accepted.model, members), kept.terminal)
        )

    async def _told(
        self, caller: Caller, request_id: str, facts: JobFacts, found: RequestState
    ) -> Response | Refusal:
        match found:
            case Indeterminate():
                return AWAY
            case Open(status=status):
                form = ResponseFormat(request_id, facts.model, bytes(NOTHING_SHOWN.members))
                body = form.open("in_progress" if status == "running" else "queued")
                return _json(body, {"retry-after": RETRY_AFTER.decode()})
            case Ended(terminal=terminal, is_in_pieces=is_in_pieces):
                kept = await self._desk.lookup.kept(caller.org, request_id)
            case _:
                terminal, is_in_pieces = error_end(ErrorCode.DEADLINE_EXCEEDED), False
                kept = None
        if isinstance(kept, Indeterminate):
            return AWAY
        shown = NOTHING_SHOWN
        if kept is not None:
            if kept.accepted.shown is None:
                return NO_RESPONSE  # It was another job.
            shown = shown_in(kept.accepted.shown) or NOTHING_SHOWN
            terminal = kept.terminal if is_in_pieces else terminal
        form = ResponseFormat(request_id, facts.model, bytes(shown.members))
        return _json(_ended(form, terminal))


def _ended(form: ResponseFormat, terminal: Terminal) -> bytes:
    refusal = refusal_of(terminal) or form.body(terminal)
    if isinstance(refusal, Refusal):
        is_cancelled = status_of(terminal) == "cancelled"
        return form.ended(refusal, "cancelled" if is_cancelled else "failed")
    return refusal


def _json(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, HTTPStatus.OK, headers, media_type="application/json")
