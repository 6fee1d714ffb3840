"""Sends whole answers over ASGI, and reads request bodies within bounds of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Send

from ingress.http.answer_headers import rate_headers, rate_states
from ingress.http.paths import surface_of
from ingress.http.refusals import Headers, Refusal, refusal_body, retry_headers
from schemas.errors import ErrorCode
from schemas.operations import Surface

_BODY_WITHIN_S: Final = 30.0
_BODY_BEGUN_WITHIN_S: Final = 5.0
_BODY_BYTES_PER_S_MIN: Final = 8 * 1024
"""Every so many bytes earn a body another second, from the first five up to the thirtieth."""


async def respond(send: Send, status: int, content_type: bytes, body: bytes, more: Headers) -> None:
    """Send an answer whose body is complete."""
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(
    send: Send, refusal: Refusal, surface: Surface, request_id: str, more: Headers
) -> None:
    """Send a refusal with its retry hints."""
    content_type, body = refusal_body(refusal, surface, request_id)
    said = {name for name, _ in more}
    hints = [header for header in retry_headers(refusal) if header[0] not in said]
    headers = [*hints, *more]
    await respond(send, refusal.status, content_type, body, headers)


def limit_headers(refusal: Refusal) -> Headers:
    """The rate headers of a refusal that a rate caused."""
    return rate_headers(rate_states("[]", refusal.denial))


def refusal_response(request: Request, refusal: Refusal) -> Response:
    """A refusal as a response of the framework."""
    path, request_id = request.scope["path"], request.scope["state"]["request_id"]
    content_type, body = refusal_body(refusal, surface_of(path), request_id)
    response = Response(body, refusal.status)
    response.raw_headers.append((b"content-type", content_type))
    response.raw_headers.extend(retry_headers(refusal))
    return response


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int
) -> bytes | Refusal | None:
    """The request's body; ``None`` when the client left before it was complete.

    Size is counted as it arrives, because a chunked body announces none.
    """
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and _exceeds(announced, max_bytes):
        return _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    begun_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(begun_s + _BODY_BEGUN_WITHIN_S) as time_left:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    return _too_large(max_bytes)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
                earned_s = _BODY_BEGUN_WITHIN_S + size / _BODY_BYTES_PER_S_MIN
                time_left.reschedule(begun_s + min(_BODY_WITHIN_S, earned_s))
    except TimeoutError:
        message_text = f"The body came too slowly: {size} bytes of it arrived."
        return Refusal(ErrorCode.BODY_TOO_SLOW, message_text)


def _exceeds(digits: bytes, limit: int) -> bool:
    """Compares lengths first, because reading a very long number takes quadratic time."""
    return len(digits) > len(str(limit)) + 1 or int(digits) > limit


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(ErrorCode.BODY_TOO_LARGE, f"The body is larger than {max_bytes} bytes.")
