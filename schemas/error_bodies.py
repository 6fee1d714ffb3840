"""Shapes of the bodies of what is not a success: decides nothing. Pure.

The OpenAPI document is made from them. Sources: OpenAI's error object; RFC 9457 (problem+json).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeAlias, TypedDict

import msgspec

from schemas.errors import AnthropicType, ErrorCode

Amount: TypeAlias = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "number"})]
"""A JSON number; one of USD has nine places, which a float would round."""
LimitCode: TypeAlias = Literal["BUDGET_EXCEEDED", "QUOTA_EXCEEDED", "RATE_LIMIT_EXCEEDED"]
LimitType: TypeAlias = Literal["budget", "quota", "rate_limit"]


class UpstreamFields(TypedDict, total=False):
    """What a backend named when it refused."""

    upstream_code: str
    upstream_param: str


class ErrorResponse(UpstreamFields):
    """A problem (RFC 9457) that is not about a limit. Programs match on `code`; messages may change.

    `error` says what `detail` says. `instance` names the request, on the public port.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: NotRequired[str]
    error: str
    code: ErrorCode
    param: NotRequired[str]


class LimitFacts(TypedDict):
    """The limit that refused: USD of a budget, requests or tokens of a quota, requests or tokens in the period of a rate."""

    limit_type: LimitType
    current_usage: Amount
    limit: Amount
    retry_after: int | None


class LimitErrorResponse(LimitFacts):
    """A refusal by a limit. `retry_after` has seconds, and is null where the same request cannot succeed later by itself."""

    error: str
    code: LimitCode


class OpenAIErrorObject(TypedDict):
    """OpenAI's error object; `gateway_code` stands beside a code that is a backend's own."""

    message: str
    type: str
    param: str | None
    code: str | None
    gateway_code: NotRequired[ErrorCode]


class OpenAIErrorResponse(TypedDict):
    """OpenAI's error; where a limit refused, its facts stand beside it as in `LimitErrorResponse`."""

    error: OpenAIErrorObject
    code: NotRequired[LimitCode]
    limit_type: NotRequired[LimitType]
    current_usage: NotRequired[Amount]
    limit: NotRequired[Amount]
    retry_after: NotRequired[int | None]


class AnthropicErrorObject(UpstreamFields):
    """Anthropic's error object. Programs match on `code`, which is ours and stands beside its type."""

    type: AnthropicType
    message: str
    code: ErrorCode
    param: NotRequired[str]
    details: NotRequired[dict[str, Any]]


class AnthropicErrorResponse(TypedDict):
    """Anthropic's error; where a limit refused, its facts stand beside it as in `LimitErrorResponse`."""

    type: Literal["error"]
    error: AnthropicErrorObject
    request_id: str
    code: NotRequired[LimitCode]
    limit_type: NotRequired[LimitType]
    current_usage: NotRequired[Amount]
    limit: NotRequired[Amount]
    retry_after: NotRequired[int | None]
