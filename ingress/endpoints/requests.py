"""Requests: what became of one of the caller's own, and its records, from the ledger and the log.

A caller that may ask models may ask what became of that. Requests of other organizations look like none.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.refusals import Refusal
from ingress.http.responses import refusal_response
from ingress.requests.request_desk import RequestDesk
from ingress.requests.request_document import RequestEvents, RequestShown
from schemas.errors import ErrorCode
from schemas.operations import INFERENCE

_PAYLOAD = "payload"
_YES_OR_NO = {"true": True, "false": False}


class RequestRoutes:
    """The requests of the caller: a program's are those of its organization."""

    def __init__(self, gatekeeper: Gatekeeper, desk: RequestDesk) -> None:
        self._gatekeeper = gatekeeper
        self._desk = desk

    async def show(self, request: Request) -> Response:
        """One request; ``?payload=true`` shows what was sent and answered to the key that sent it."""
        caller = await self._gatekeeper.caller(request.scope, INFERENCE.scope)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        with_payload = _YES_OR_NO.get(request.query_params.get(_PAYLOAD, "false"))
        if with_payload is None:
            refusal = Refusal(
                ErrorCode.INVALID_REQUEST, "payload must be true or false.", param=_PAYLOAD
            )
            return refusal_response(request, refusal)
        request_id = request.path_params["request_id"]
        shown = await self._desk.show(caller, request_id, with_payload=with_payload)
        return _told(request, shown)

    async def events(self, request: Request) -> Response:
        """Its records in the order of time."""
        caller = await self._gatekeeper.caller(request.scope, INFERENCE.scope)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        events = await self._desk.events(caller, request.path_params["request_id"])
        return _told(request, events)


def _told(request: Request, told: RequestShown | RequestEvents | Refusal) -> Response:
    if isinstance(told, Refusal):
        return refusal_response(request, told)
    return Response(msgspec.json.encode(told), media_type="application/json")
