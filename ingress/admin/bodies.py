"""Reads what an administrator sends: a bounded JSON body, versions, instants, lists.

Only ``application/json`` is taken, which a web page of another site cannot send unasked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from starlette.requests import Request

from ingress.admin.refusal import Refusal
from schemas.errors import ErrorCode

_BODY_BYTES_MAX = 256 * 1024

T = TypeVar("T")


async def read_json(request: Request) -> bytes | Refusal:
    """The body; its content is not looked at."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        return Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "content-type must be application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            return Refusal(ErrorCode.BODY_TOO_LARGE, f"at most {_BODY_BYTES_MAX} bytes")
    return bytes(body)


async def read_as(request: Request, wanted: type[T]) -> T | Refusal:
    """The body as a value; unknown fields are refused."""
    body = await read_json(request)
    if isinstance(body, Refusal):
        return body
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        return Refusal(ErrorCode.INVALID_REQUEST, str(error))
    except (msgspec.DecodeError, ValueError) as error:
        return Refusal(ErrorCode.INVALID_JSON, str(error))


def if_match(request: Request) -> int | Refusal | None:
    """The version in ``If-Match``, bare or quoted; ``None`` when the header is absent."""
    header = request.headers.get("if-match")
    if header is None:
        return None
    version = header.strip().strip('"')
    if not version.isdecimal():
        return Refusal(ErrorCode.INVALID_REQUEST, "If-Match must be a version, such as 3")
    return int(version)


def instant(text: str) -> datetime | Refusal:
    """An RFC 3339 date or date-time; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return Refusal(ErrorCode.INVALID_REQUEST, f"{text!r} is not an RFC 3339 date or date-time")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
