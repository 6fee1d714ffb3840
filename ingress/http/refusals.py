"""Refusals as values, and their bodies and headers on the surfaces.

A message may change; programs match on the code. Amounts of money are written as exact decimals.
Sources: OpenAI's and Anthropic's error objects; RFC 9457 (problem+json); design.md section 3 (limit verdicts).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, TypeAlias, assert_never, cast

import msgspec

from schemas.error_bodies import (
    Amount,
    AnthropicErrorObject,
    AnthropicErrorResponse,
    ErrorResponse,
    LimitCode,
    LimitErrorResponse,
    LimitFacts,
    LimitType,
    OpenAIErrorObject,
    OpenAIErrorResponse,
    UpstreamFields,
)
from schemas.errors import ERRORS, ErrorCode, anthropic_type
from schemas.events import Denial, Said
from schemas.ledger import answers
from schemas.money import usd
from schemas.operations import Surface

Headers: TypeAlias = list[tuple[bytes, bytes]]

_LIMIT_CODES: Final = frozenset(
    {ErrorCode.BUDGET_EXCEEDED, ErrorCode.QUOTA_EXCEEDED, ErrorCode.RATE_LIMIT_EXCEEDED}
)
_HINTED: Final = (
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_SDK_PATIENCE_MS: Final = 60_000
"""SDKs sleep for as long as they are told, or retry at once; beyond this they shall not retry."""
_DETAILS: Final = {
    "thread": {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
}
"""By a field that is refused: what Anthropic's SDK reads to go on without it."""
_NOTHING_SAID: Final = Said()
_UNQUOTED: Final = bytes.maketrans(b'"\\\r\n\0', b"'/   ")
"""What would end a quoted text of a header, or the header."""


class Refusal(msgspec.Struct, frozen=True):
    """An answer that is not a success. ``status`` and ``retry_after_ms`` default to the table's."""

    code: ErrorCode
    message: str
    param: str | None = None
    status_override: int | None = None
    denial: Denial | None = None
    retry_after_ms: int | None = None
    request_id: str | None = None
    """What is refused, where it stands for another request than the one that came."""
    said: Said = _NOTHING_SAID
    """What a backend named when it refused."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.status_override or ERRORS[self.code].status

    @property
    def wait_ms(self) -> int | None:
        """When a retry may succeed, where the status carries such a hint."""
        if self.status not in _HINTED:
            return None
        if self.retry_after_ms is not None:
            return self.retry_after_ms
        if self.denial is not None and self.denial.retry_after_ms is not None:
            return self.denial.retry_after_ms
        return ERRORS[self.code].retry_after_ms


def too_many(limited: answers.Limited, what: str) -> Refusal:
    """The refusal of something of which an organization has as many as the ledger keeps."""
    denial = Denial(
        limit_id=limited.id,
        limit_type="rate_limit",
        unit="requests",
        current_usage=limited.usage,
        limit=limited.limit,
        retry_after_ms=limited.retry_after_ms,
    )
    message = f"{limited.usage} of {limited.limit} {what}."
    return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message, denial=denial)


def told_headers(refusal: Refusal) -> Headers:
    """``retry-after``, ``retry-after-ms``, ``x-should-retry`` and ``www-authenticate``, as far as they apply."""
    headers: Headers = []
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", _challenge(refusal)))
    wait_ms = refusal.wait_ms
    if wait_ms is not None:
        headers.append((b"retry-after", b"%d" % _seconds(wait_ms)))
        headers.append((b"retry-after-ms", b"%d" % wait_ms))
    # A limit that only running requests hold up answers 429 under a code that otherwise is final.
    may_retry = ERRORS[refusal.code].may_retry or refusal.status == HTTPStatus.TOO_MANY_REQUESTS
    if not may_retry or (wait_ms or 0) > _SDK_PATIENCE_MS:
        headers.append((b"x-should-retry", b"false"))
    return headers


def _challenge(refusal: Refusal) -> bytes:
    """How to say who one is (RFC 6750 section 3); what is wrong with a token stands in it, too."""
    if refusal.code != ErrorCode.INVALID_TOKEN:
        return b'Bearer realm="tallygate"'
    why = refusal.message.encode("ascii", "replace").translate(_UNQUOTED)
    return b'Bearer realm="tallygate", error="invalid_token", error_description="%b"' % why


def refusal_body(refusal: Refusal, surface: Surface, request_id: str) -> tuple[bytes, bytes]:
    """Content type and body."""
    match surface:
        case "openai":
            return _openai_body(refusal)
        case "anthropic":
            return b"application/json", anthropic_body(refusal, request_id)
        case "native":
            return _native_body(refusal, request_id)
        case _:
            assert_never(surface)


def _openai_body(refusal: Refusal) -> tuple[bytes, bytes]:
    body: OpenAIErrorResponse = {"error": error_object(refusal)}
    if _is_by_limit(refusal):
        body = {**body, "code": _limit_code(refusal), **limit_facts(refusal)}
    return b"application/json", msgspec.json.encode(body)


def _native_body(refusal: Refusal, request_id: str) -> tuple[bytes, bytes]:
    if _is_by_limit(refusal):
        code = _limit_code(refusal)
        body: LimitErrorResponse = {
            "error": refusal.message,
            "code": code,
            **limit_facts(refusal),
        }
        return b"application/json", msgspec.json.encode(body)
    return b"application/problem+json", msgspec.json.encode(_problem(refusal, request_id))


def anthropic_body(refusal: Refusal, request_id: str) -> bytes:
    """Anthropic's error, as an answer and as the event that ends a stream."""
    error: AnthropicErrorObject = {
        "type": anthropic_type(refusal.status),
        "message": refusal.message,
        "code": refusal.code,
    }
    if refusal.param is not None:
        error["param"] = refusal.param
        if refusal.param in _DETAILS:
            error["details"] = _DETAILS[refusal.param]
    body: AnthropicErrorResponse = {
        "type": "error",
        "error": {**error, **_upstream_fields(refusal)},
        "request_id": request_id,
    }
    if _is_by_limit(refusal):
        body = {**body, "code": _limit_code(refusal), **limit_facts(refusal)}
    return msgspec.json.encode(body)


def _upstream_fields(refusal: Refusal) -> UpstreamFields:
    """What a backend named, by our names."""
    fields: UpstreamFields = {}
    if refusal.said.code is not None:
        fields["upstream_code"] = refusal.said.code
    if refusal.said.param is not None:
        fields["upstream_param"] = refusal.said.param
    return fields


def _is_by_limit(refusal: Refusal) -> bool:
    return refusal.denial is not None and refusal.code in _LIMIT_CODES


def _limit_code(refusal: Refusal) -> LimitCode:
    return cast("LimitCode", refusal.code.value)


def error_object(refusal: Refusal) -> OpenAIErrorObject:
    """OpenAI's error object. A backend's own code stands where clients look for one, ours beside it then."""
    said, code = refusal.said, refusal.code
    error: OpenAIErrorObject = {
        "message": refusal.message,
        "type": said.type or ERRORS[code].openai_type,
        "param": refusal.param or said.param,
        "code": said.code or code.value,
    }
    return error if said.code is None else {**error, "gateway_code": code}


def _problem(refusal: Refusal, request_id: str) -> ErrorResponse:
    problem: ErrorResponse = {
        "type": "about:blank",
        "title": ERRORS[refusal.code].title,
        "status": refusal.status,
        "detail": refusal.message,
        "instance": f"urn:uuid:{request_id}",
        "error": refusal.message,
        "code": refusal.code,
    }
    if refusal.param is not None:
        problem["param"] = refusal.param
    return {**problem, **_upstream_fields(refusal)}


def limit_facts(refusal: Refusal) -> LimitFacts:
    """What a refusal by a limit tells about it."""
    denial = refusal.denial
    assert denial is not None
    # In the body also where the status carries no hint: a budget service may say when a spent one is filled again.
    wait_ms = denial.retry_after_ms if refusal.wait_ms is None else refusal.wait_ms
    return {
        "limit_type": cast("LimitType", denial.limit_type),
        "current_usage": amount_told(denial.current_usage, denial.unit),
        "limit": amount_told(denial.limit, denial.unit),
        "retry_after": None if wait_ms is None else _seconds(wait_ms),
    }


def amount_told(amount: int, unit: str) -> Amount:
    """The amount as a JSON number: USD with all nine places, since a float would round it."""
    return msgspec.Raw(usd(amount).encode()) if unit == "nano_usd" else amount


def _seconds(wait_ms: int) -> int:
    return max(1, -(-wait_ms // 1000))
