"""Counts the tokens of a message request: nothing is asked of a backend, billed or written into the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from ingress.apis.answer_format import limit_headers
from ingress.apis.anthropic.contract import InputTokens
from ingress.apis.anthropic.counting import input_tokens, read_counting
from ingress.auth.callers import TOLD
from ingress.gatekeeper.gatekeeper import Entered, Gatekeeper
from ingress.http.refusals import Refusal
from ingress.http.request import read_object, refuse_media
from ingress.http.responses import refuse, respond
from ingress.requests.exact_counts import ExactCounts
from schemas.operations import MESSAGES


class CountTokensEndpoint:
    """The counting, as an ASGI application; its callers enter as those of messages do."""

    def __init__(self, gatekeeper: Gatekeeper, counts: ExactCounts) -> None:
        self._gatekeeper = gatekeeper
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state, headers = scope["state"], dict(scope["headers"])
        answer = await self._enter(scope, headers, receive)
        if isinstance(answer, Refusal):
            await refuse(send, answer, MESSAGES.surface, state, limit_headers(answer))
        elif answer is not None:
            await respond(send, 200, b"application/json", msgspec.json.encode(answer), [])

    async def _enter(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> InputTokens | Refusal | None:
        """``None`` when the client left before its body was complete."""
        keeper, request_id = self._gatekeeper, scope["state"]["request_id"]
        asked = keeper.tell(scope, headers)
        told = asked if isinstance(asked, TOLD) else await asked
        if isinstance(told, Refusal):
            return told
        entered = keeper.enter(told, MESSAGES, scope, headers, request_id)
        if isinstance(entered, Refusal):
            return entered
        try:
            return await self._count(entered, headers, receive, request_id)
        finally:
            keeper.leave(entered)

    async def _count(
        self, entered: Entered, headers: Mapping[bytes, bytes], receive: Receive, request_id: str
    ) -> InputTokens | Refusal | None:
        keeper, caller = self._gatekeeper, entered.caller
        if (refusal := refuse_media(headers)) is not None:
            return refusal
        body = await keeper.read_body(entered, headers, receive, request_id)
        if body is None or isinstance(body, Refusal):
            return body
        fields: dict[str, Any] | Refusal = read_object(body)
        if isinstance(fields, Refusal):
            return fields
        texts = read_counting(fields, keeper.config.snapshot, caller)
        if isinstance(texts, Refusal):
            return texts
        counted = await self._counts.counted(caller.org, texts)
        return {"input_tokens": input_tokens(texts, counted)}
