"""Reads what an administrator sends: a bounded JSON body, versions, instants, lists.

Only ``application/json`` is taken, which a web page of another site cannot send unasked.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request

from ingress.admin.http.refusal import Refusal
from schemas.entities import EntityId
from schemas.errors import ErrorCode

_BODY_BYTES_MAX = 256 * 1024
_BODY_WITHIN_S = 10.0
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_YEARS: Final = range(1970, 2200)

T = TypeVar("T")


async def read_json(request: Request) -> bytes | Refusal:
    """The body; its content is not looked at."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        return Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "content-type must be application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _BODY_BYTES_MAX:
                    return Refusal(ErrorCode.BODY_TOO_LARGE, f"at most {_BODY_BYTES_MAX} bytes")
    except (TimeoutError, ClientDisconnect):
        return Refusal(ErrorCode.BODY_TOO_SLOW, f"it was not whole after {_BODY_WITHIN_S:.0f} s")
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
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Refusal(ErrorCode.INVALID_JSON, str(error))


def if_match(request: Request) -> int | Refusal | None:
    """The version in ``If-Match``, bare or quoted; ``None`` when the header is absent."""
    header = request.headers.get("if-match")
    if header is None:
        return None
    version = header.strip().strip('"')
    if _NUMBER.fullmatch(version) is None:
        return Refusal(ErrorCode.INVALID_REQUEST, "If-Match must be a version, such as 3")
    return int(version)


def instant(text: str) -> datetime | Refusal:
    """An RFC 3339 date or date-time; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return Refusal(ErrorCode.INVALID_REQUEST, f"{text!r} is not an RFC 3339 date or date-time")
    if moment.year not in _YEARS:
        return Refusal(ErrorCode.INVALID_REQUEST, f"a year is {_YEARS[0]} to {_YEARS[-1]}")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def span_of(
    params: QueryParams, now_ms: int, default: timedelta
) -> tuple[datetime, datetime] | Refusal:
    """``from`` and ``to`` of a URL; without them the time up to now, ``default`` of it."""
    end = instant(params["to"]) if "to" in params else datetime.fromtimestamp(now_ms / 1_000, UTC)
    if isinstance(end, Refusal):
        return end
    start = instant(params["from"]) if "from" in params else end - default
    return start if isinstance(start, Refusal) else (start, end)


def number(text: str, name: str, least: int, most: int) -> int | Refusal:
    """The whole number in a parameter, within its bounds."""
    if _NUMBER.fullmatch(text) is None or not least <= int(text) <= most:
        return Refusal(ErrorCode.INVALID_REQUEST, f"{name!r} is {least} to {most}")
    return int(text)


def organization(params: QueryParams) -> str | Refusal | None:
    """The organization in ``?org=``; ``None`` when it is not given."""
    org = params.get("org")
    if org is None or is_id(org):
        return org
    return Refusal(ErrorCode.INVALID_REQUEST, f"{org!r} cannot be an id")


def is_id(candidate: str) -> bool:
    """Whether the text can be the id of an entity, and so a part of a key of a store."""
    try:
        msgspec.convert(candidate, EntityId)
    except msgspec.ValidationError:
        return False
    return True
