"""Finds the conversation that a response request goes on from: in the log, where that response was asked and answered.

The record of a response holds all that was said before it, so there is one to be read, however long the conversation is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from ingress.apis.openai.responses import create
from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.apis.openai.responses.items import PREVIOUS, Earlier
from ingress.apis.openai.responses.shown import Shown, read_shown
from ingress.apis.parsed_request import Fields, RequestParser, invalid
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from ingress.http.request import read_object
from ingress.requests.job_desk import AWAY
from ingress.requests.lookup import RequestLookup
from ingress.requests.request_state import Indeterminate, KeptRequest
from schemas.errors import ErrorCode
from schemas.ids import uuid7_time_ms
from schemas.ledger.errors import LedgerUnavailable
from schemas.operations import RESPONSES
from schemas.responses import request_id_of

__all__ = ["CONVERSATION_BYTES_MAX", "KEPT_MS", "Conversations", "StoredResponse"]

CONVERSATION_BYTES_MAX: Final = 1024 * 1024
"""Of a chat completion that is read again; a longer conversation is sent by its client."""
KEPT_MS: Final = 72 * 3_600_000
"""As long as the log has requests and outcomes."""
_NAMED: Final = f'"{PREVIOUS}"'.encode()
_NONE: Final = Refusal(
    ErrorCode.NOT_FOUND,
    "previous_response_id names no response that is kept: they are for 72 hours, once they have ended, unless store is false.",
    param=PREVIOUS,
)
_FAILED: Final = invalid(PREVIOUS, "names a response that has no answer")
_TOO_LONG: Final = invalid(
    PREVIOUS, f"names a conversation of more than {CONVERSATION_BYTES_MAX} bytes: send it as input"
)


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response that is kept."""

    shown: Shown
    kept: KeptRequest


@dataclass(frozen=True, slots=True)
class Conversations:
    """Reads responses that are kept."""

    lookup: RequestLookup

    async def parser(self, caller: Caller, body: bytes) -> RequestParser | Refusal:
        """How the body of a response request is read, once what it goes on from is known."""
        if _NAMED not in body:
            return create.parse
        fields = read_object(body)
        given = fields.get(PREVIOUS) if isinstance(fields, dict) else None
        if not isinstance(given, str):
            return create.parse  # Which refuses what is wrong.
        request_id = request_id_of(given)
        found = None if request_id is None else await self.find(caller, request_id)
        if request_id is None or found is None:
            return _NONE
        earlier = found if isinstance(found, Refusal) else _earlier(request_id, found)
        return earlier if isinstance(earlier, Refusal) else partial(create.parse, earlier=earlier)

    async def find(self, caller: Caller, request_id: str) -> StoredResponse | Refusal | None:
        """The response of a request; ``None`` where the caller has none that is kept."""
        age_ms = self.lookup.clock.now_ms() - uuid7_time_ms(request_id)
        if age_ms > KEPT_MS:
            return None
        try:
            kept = await self.lookup.kept(caller.org, request_id)
        except LedgerUnavailable:
            return AWAY
        if isinstance(kept, Indeterminate):
            return AWAY
        shown = None if kept is None else _shown(caller, kept)
        return None if kept is None or shown is None else StoredResponse(shown, kept)


def _shown(caller: Caller, kept: KeptRequest) -> Shown | None:
    """What it repeats of its request; ``None`` where that is no response, or not the caller's."""
    accepted = kept.accepted
    if accepted.org != caller.org or accepted.route != RESPONSES.name or accepted.shown is None:
        return None
    try:
        shown = read_shown(accepted.shown)
    except msgspec.DecodeError:
        return None
    return shown if shown.is_open_to(caller.owner) else None


def _earlier(request_id: str, stored: StoredResponse) -> Earlier | Refusal:
    accepted, terminal = stored.kept.accepted, stored.kept.terminal
    if len(accepted.payload) > CONVERSATION_BYTES_MAX:
        return _TOO_LONG
    form = ResponseFormat(request_id, accepted.model, bytes(stored.shown.members))
    response = _FAILED if terminal.error_code is not None else form.body(terminal)
    if isinstance(response, Refusal):
        return _FAILED
    messages: list[Fields] = msgspec.json.decode(accepted.payload)["messages"]
    output: list[Fields] = msgspec.json.decode(response)["output"]
    return Earlier(messages[stored.shown.instructions :], output)
