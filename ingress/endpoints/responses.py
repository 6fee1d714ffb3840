"""Responses that are kept: read again, and those that run in the background polled and cancelled.

These are jobs, told in OpenAI's form; the others are found in the log, once they have ended. Those of other organizations
look like none, and to a user those of others and of programs do. One that has not ended is told without what it repeats of
its request, which only the log has.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingress.apis.answer_format import refusal_of
from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.apis.openai.responses.shown import NOTHING_SHOWN, Shown, read_shown
from ingress.auth.caller import Caller
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.refusals import Refusal
from ingress.http.responses import refusal_response
from ingress.requests.conversations import Conversations, StoredResponse
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

_NONE: Final = Refusal(
    ErrorCode.NOT_FOUND,
    "There is no such response: they are kept for 72 hours, once they have ended, unless store is false.",
)
_FOLLOWED: Final = Refusal(
    ErrorCode.INVALID_REQUEST, "A stream cannot be read again: poll the response.", param="stream"
)
_NOT_IN_BACKGROUND: Final = Refusal(
    ErrorCode.INVALID_REQUEST, "Only a response that runs in the background can be cancelled."
)
_LOOKS: Final = 20
_LOOK_EVERY_S: Final = 0.15
"""How often, and how long, it is looked whether what was cancelled has ended."""


class ResponseRoutes:
    """The responses of the caller: a program's are those of its organization."""

    def __init__(self, gatekeeper: Gatekeeper, desk: JobDesk, conversations: Conversations) -> None:
        self._gatekeeper = gatekeeper
        self._desk = desk
        self._conversations = conversations

    async def show(self, request: Request) -> Response:
        """One response, as it is now."""
        if request.query_params.get("stream", "false").lower() not in ("false", "0", ""):
            return refusal_response(request, _FOLLOWED)
        return await self._answer(request, is_cancelled=False)

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
            return _NONE
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
            return stored or _NONE
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
            case Ended(terminal=terminal):
                shown = await self._shown(caller, request_id)
            case _:
                terminal = error_end(ErrorCode.DEADLINE_EXCEEDED)
                shown = NOTHING_SHOWN
        if isinstance(shown, Refusal):
            return shown
        return _json(
            _ended(ResponseFormat(request_id, facts.model, bytes(shown.members)), terminal)
        )

    async def _shown(self, caller: Caller, request_id: str) -> Shown | Refusal:
        """What an ended one repeats of its request; 404 where that was none for a response."""
        kept = await self._desk.lookup.kept(caller.org, request_id)
        if isinstance(kept, Indeterminate):
            return AWAY
        if kept is None:
            return NOTHING_SHOWN
        if kept.accepted.shown is None:
            return _NONE
        try:
            return read_shown(kept.accepted.shown)
        except msgspec.DecodeError:
            return NOTHING_SHOWN


def _ended(form: ResponseFormat, terminal: Terminal) -> bytes:
    refusal = refusal_of(terminal) or form.body(terminal)
    if isinstance(refusal, Refusal):
        is_cancelled = status_of(terminal) == "cancelled"
        return form.ended(refusal, "cancelled" if is_cancelled else "failed")
    return refusal


def _json(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, HTTPStatus.OK, headers, media_type="application/json")
