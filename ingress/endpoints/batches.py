"""Batches: files of requests that run when there is room, as OpenAI has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingress.apis.openai.batches import BatchList, BatchObject, read_batch
from ingress.auth.caller import Caller
from ingress.auth.signature import Unproven, sha256_of
from ingress.batches.desk import BatchDesk, batch_object
from ingress.batches.lines import BATCHED
from ingress.files.shelf import NO_FILES
from ingress.gatekeeper.bodies import read_body
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.refusals import Refusal
from ingress.http.request import page_limit, read_object, refuse_media, webhook_url_of
from ingress.http.responses import refusal_response
from ingress.requests.webhook_address import refuse_address
from schemas.operations import JOBS

_BODY_BYTES_MAX: Final = 64 * 1024
_LIMIT_DEFAULT: Final = 20
_LIMIT_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class BatchRoutes:
    """The batches of the caller: a program's are those of its organization."""

    gatekeeper: Gatekeeper
    desk: BatchDesk | None
    """``None`` where no files are kept."""

    async def create(self, request: Request) -> Response:
        """Take a batch in."""
        caller = await self._read_and_prove(request)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        who, fields = caller
        if self.desk is None:
            return refusal_response(request, NO_FILES)
        asked = read_batch(fields, tuple(BATCHED))
        told_at = self._told_at(request, who)
        if isinstance(asked, Refusal):
            return refusal_response(request, asked)
        if isinstance(told_at, Refusal):
            return refusal_response(request, told_at)
        made = await self.desk.create(who, asked, told_at)
        return _answer(request, made if isinstance(made, Refusal) else batch_object(made))

    def _told_at(self, request: Request, caller: Caller) -> str | Refusal | None:
        """Where the client wishes to be told of the end."""
        url = webhook_url_of(dict(request.scope["headers"]))
        if not isinstance(url, str):
            return url
        return refuse_address(url, caller.org, self.gatekeeper.config.snapshot) or url

    async def _read_and_prove(self, request: Request) -> tuple[Caller, dict[str, Any]] | Refusal:
        """Who asks, and the body of that."""
        told = await self.gatekeeper.uploading(request.scope, JOBS.scope)
        if isinstance(told, Refusal):
            return told
        headers = dict(request.scope["headers"])
        body = await read_body(request.receive, headers, _BODY_BYTES_MAX)
        if isinstance(body, Refusal):
            return body
        if isinstance(told, Unproven):
            request_id = request.scope["state"]["request_id"]
            forgery = await self.gatekeeper.prove(told, sha256_of(body or b""), request_id)
            if forgery is not None:
                return forgery
            told = told.caller
        # Of a client that is gone there is no body, and nothing is begun.
        fields = refuse_media(headers) or read_object(body or b"")
        return fields if isinstance(fields, Refusal) else (told, fields)

    async def show(self, request: Request) -> Response:
        """One batch."""
        known = await self._known(request)
        if isinstance(known, Refusal):
            return refusal_response(request, known)
        caller, desk = known
        found = await desk.find(caller, request.path_params["batch_id"])
        return _answer(request, found if isinstance(found, Refusal) else batch_object(found))

    async def cancel(self, request: Request) -> Response:
        """Cancel a batch."""
        known = await self._known(request)
        if isinstance(known, Refusal):
            return refusal_response(request, known)
        caller, desk = known
        found = await desk.cancel(caller, request.path_params["batch_id"])
        return _answer(request, found if isinstance(found, Refusal) else batch_object(found))

    async def list_all(self, request: Request) -> Response:
        """A page of batches."""
        known = await self._known(request)
        if isinstance(known, Refusal):
            return refusal_response(request, known)
        caller, desk = known
        limit = page_limit(request.query_params.get("limit"), _LIMIT_DEFAULT, _LIMIT_MAX)
        if isinstance(limit, Refusal):
            return refusal_response(request, limit)
        listed = await desk.list_all(caller, request.query_params.get("after"), limit)
        if isinstance(listed, Refusal):
            return refusal_response(request, listed)
        batches, has_more = listed
        page = [batch_object(each) for each in batches]
        return _answer(
            request,
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": has_more,
            },
        )

    async def _known(self, request: Request) -> tuple[Caller, BatchDesk] | Refusal:
        """Who asks, and where."""
        caller = await self.gatekeeper.caller(request.scope, JOBS.scope)
        if isinstance(caller, Refusal):
            return caller
        return NO_FILES if self.desk is None else (caller, self.desk)


def _answer(request: Request, told: BatchObject | BatchList | Refusal) -> Response:
    if isinstance(told, Refusal):
        return refusal_response(request, told)
    return Response(msgspec.json.encode(told), media_type="application/json")
