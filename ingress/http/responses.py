"""Sends whole answers over ASGI."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from ingress.http.exchange import BODY_FOLLOWS
from ingress.http.paths import place_of_request
from ingress.http.refusals import Headers, Refusal, refusal_body, told_headers
from schemas.operations import Surface


async def respond(send: Send, status: int, content_type: bytes, body: bytes, more: Headers) -> None:
    """Send an answer whose body is complete."""
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        *more,
    ]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await send({**start, BODY_FOLLOWS: True})
    await send({"type": "http.response.body", "body": body})


async def refuse(
    send: Send, refusal: Refusal, surface: Surface, state: dict[str, Any], more: Headers
) -> None:
    """Send a refusal with its retry hints; its code goes into the request's ``state``, to be counted."""
    state["code"] = refusal.code
    content_type, body = refusal_body(refusal, surface, state["request_id"])
    said = {name for name, _ in more}
    hints = [header for header in told_headers(refusal) if header[0] not in said]
    headers = [*hints, *more]
    await respond(send, refusal.status, content_type, body, headers)


def refusal_response(request: Request, refusal: Refusal) -> Response:
    """A refusal as a response of the framework."""
    state, surface = request.scope["state"], place_of_request(request.scope).surface
    state["code"] = refusal.code
    content_type, body = refusal_body(refusal, surface, state["request_id"])
    response = Response(body, refusal.status)
    response.raw_headers.append((b"content-type", content_type))
    response.raw_headers.extend(told_headers(refusal))
    return response
