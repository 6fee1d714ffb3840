"""The one table of error codes: status, texts and retry behaviour of every answer that is not a success. Pure.

A code is what programs match on; messages may change. Sources: OpenAI's error object, RFC 9457
(problem+json), design.md section 3 (limit verdicts).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

__all__ = [
    "ERRORS",
    "RETRY_HINT_MAX_MS",
    "RETRY_HINT_MIN_MS",
    "AnthropicType",
    "ErrorCode",
    "ErrorSpec",
    "GrpcCode",
    "anthropic_type",
    "grpc_status",
]


RETRY_HINT_MIN_MS: Final = 100
RETRY_HINT_MAX_MS: Final = 30_000
"""Between them is whatever a process predicts of when to come back, where no limit says it."""


class ErrorCode(StrEnum):
    """Machine-readable reasons."""

    INVALID_API_KEY = "invalid_api_key"
    INVALID_TOKEN = "invalid_token"  # noqa: S105  # a code
    CALLER_NOT_ALLOWED = "caller_not_allowed"
    KEY_NOT_ALLOWED = "key_not_allowed"
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    SIGNATURE_EXPIRED = "signature_expired"
    SIGNATURE_REPLAYED = "signature_replayed"
    CERTIFICATE_UNKNOWN = "certificate_unknown"
    ROLE_NOT_ALLOWED = "role_not_allowed"
    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    HEADERS_TOO_LARGE = "headers_too_large"
    HEADERS_TOO_SLOW = "headers_too_slow"
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_UNPRICED = "model_unpriced"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    VERSION_CONFLICT = "version_conflict"
    REFERENCE_CONFLICT = "reference_conflict"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    REQUEST_TOO_LARGE_FOR_LIMIT = "request_too_large_for_limit"
    REQUEST_CANCELLED = "request_cancelled"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_RATE_LIMITED = "upstream_rate_limited"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_INTERRUPTED = "upstream_interrupted"
    NO_BACKEND = "no_backend_available"
    RESULT_LOST = "result_lost"
    RESULT_EXPIRED = "result_expired"
    BODY_LOST = "body_lost"
    SERVICE_UNAVAILABLE = "service_unavailable"
    OVERLOADED = "server_is_overloaded"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """What an error code means on the wire."""

    status: int
    openai_type: str
    title: str
    may_retry: bool
    """False sends ``x-should-retry: false``: the same request cannot succeed later by itself."""
    retry_after_ms: int | None = None
    """Default hint where the answer carries none of its own."""


_INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_UNAVAILABLE: Final = "service_unavailable_error"

ERRORS: Final[dict[ErrorCode, ErrorSpec]] = {
    ErrorCode.INVALID_API_KEY: ErrorSpec(401, _INVALID, "The API key is not valid", False),
    ErrorCode.INVALID_TOKEN: ErrorSpec(401, _INVALID, "The token is not valid", False),
    ErrorCode.CALLER_NOT_ALLOWED: ErrorSpec(
        403, _INVALID, "Who calls is known, and has no place here", False
    ),
    ErrorCode.KEY_NOT_ALLOWED: ErrorSpec(403, _INVALID, "The key may not do this", False),
    ErrorCode.SIGNATURE_MISSING: ErrorSpec(401, _INVALID, "The request is not signed", False),
    ErrorCode.SIGNATURE_INVALID: ErrorSpec(401, _INVALID, "The signature is not valid", False),
    ErrorCode.SIGNATURE_EXPIRED: ErrorSpec(401, _INVALID, "The signature is too old", False),
    ErrorCode.SIGNATURE_REPLAYED: ErrorSpec(401, _INVALID, "The signature was used", False),
    ErrorCode.CERTIFICATE_UNKNOWN: ErrorSpec(403, _INVALID, "The certificate has no role", False),
    ErrorCode.ROLE_NOT_ALLOWED: ErrorSpec(403, _INVALID, "The role may not do this", False),
    ErrorCode.INVALID_JSON: ErrorSpec(400, _INVALID, "The body is not acceptable JSON", False),
    ErrorCode.INVALID_REQUEST: ErrorSpec(400, _INVALID, "The request is not valid", False),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorSpec(415, _INVALID, "Send application/json", False),
    ErrorCode.BODY_TOO_LARGE: ErrorSpec(413, _INVALID, "The body is too large", False),
    ErrorCode.BODY_TOO_SLOW: ErrorSpec(408, _INVALID, "The body came too slowly", True),
    ErrorCode.HEADERS_TOO_LARGE: ErrorSpec(431, _INVALID, "The headers are too large", False),
    ErrorCode.HEADERS_TOO_SLOW: ErrorSpec(408, _INVALID, "The headers came too slowly", True),
    ErrorCode.MODEL_NOT_FOUND: ErrorSpec(404, _INVALID, "The model does not exist", False),
    ErrorCode.MODEL_UNPRICED: ErrorSpec(
        403, "insufficient_quota", "The model has no price and a budget applies", False
    ),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: ErrorSpec(
        422, _INVALID, "The idempotency key came with another body before", False
    ),
    ErrorCode.IDEMPOTENCY_IN_FLIGHT: ErrorSpec(
        409, _INVALID, "The first request with this idempotency key is still running", True, 1_000
    ),
    ErrorCode.NOT_FOUND: ErrorSpec(404, _INVALID, "Not found", False),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorSpec(405, _INVALID, "Method not allowed", False),
    ErrorCode.VERSION_CONFLICT: ErrorSpec(409, _INVALID, "Somebody else changed it", False),
    ErrorCode.REFERENCE_CONFLICT: ErrorSpec(
        409, _INVALID, "Something refers to what would not exist", False
    ),
    ErrorCode.RATE_LIMIT_EXCEEDED: ErrorSpec(
        429, "rate_limit_exceeded", "Rate limit reached", True, 1_000
    ),
    ErrorCode.QUOTA_EXCEEDED: ErrorSpec(402, "insufficient_quota", "Quota spent", False),
    ErrorCode.BUDGET_EXCEEDED: ErrorSpec(402, "insufficient_quota", "Budget spent", False),
    ErrorCode.REQUEST_TOO_LARGE_FOR_LIMIT: ErrorSpec(
        400, _INVALID, "The request can never fit its rate limit", False
    ),
    ErrorCode.REQUEST_CANCELLED: ErrorSpec(409, _INVALID, "The request was cancelled", False),
    ErrorCode.UPSTREAM_REJECTED: ErrorSpec(400, _INVALID, "The backend refused the request", False),
    ErrorCode.UPSTREAM_RATE_LIMITED: ErrorSpec(
        429, "rate_limit_exceeded", "The backend's rate limit is reached", True, 1_000
    ),
    ErrorCode.UPSTREAM_ERROR: ErrorSpec(502, _SERVER, "The backend failed", True),
    ErrorCode.UPSTREAM_INTERRUPTED: ErrorSpec(502, _SERVER, "The backend broke off", True),
    ErrorCode.NO_BACKEND: ErrorSpec(503, _UNAVAILABLE, "No backend is available", True, 2_000),
    ErrorCode.RESULT_LOST: ErrorSpec(
        502, _SERVER, "The request ran and was billed, but its answer was lost", True
    ),
    ErrorCode.RESULT_EXPIRED: ErrorSpec(410, _INVALID, "The answer is not kept any more", False),
    ErrorCode.BODY_LOST: ErrorSpec(
        503, _UNAVAILABLE, "The request's body could not be read again", True, 1_000
    ),
    ErrorCode.SERVICE_UNAVAILABLE: ErrorSpec(
        503, _UNAVAILABLE, "The gateway cannot take requests now", True, 2_000
    ),
    ErrorCode.OVERLOADED: ErrorSpec(503, _UNAVAILABLE, "The gateway is full", True, 1_000),
    ErrorCode.DEADLINE_EXCEEDED: ErrorSpec(504, _SERVER, "The deadline passed", True),
    ErrorCode.INTERNAL_ERROR: ErrorSpec(500, _SERVER, "Something went wrong here", True),
}

GrpcCode: TypeAlias = Literal[
    "INVALID_ARGUMENT", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "NOT_FOUND", "UNIMPLEMENTED",
    "DEADLINE_EXCEEDED", "ABORTED", "FAILED_PRECONDITION", "INTERNAL", "UNAVAILABLE",
]  # fmt: skip
"""Names of gRPC's statuses."""
_GRPC: Final[dict[int, GrpcCode]] = {
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    410: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    422: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    431: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}
_SERVER_ERRORS: Final = 500


def grpc_status(status: int) -> GrpcCode:
    """What an error with this HTTP status is called over gRPC, also one of a backend that no row has."""
    return _GRPC.get(status, "INVALID_ARGUMENT" if status < _SERVER_ERRORS else "UNAVAILABLE")


AnthropicType: TypeAlias = Literal[
    "invalid_request_error", "authentication_error", "billing_error", "permission_error", "not_found_error",
    "timeout_error", "request_too_large", "rate_limit_error", "api_error", "overloaded_error",
]  # fmt: skip
"""Names of Anthropic's errors."""
_ANTHROPIC: Final[dict[int, AnthropicType]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_type(status: int) -> AnthropicType:
    """What an error with this HTTP status is called on Anthropic's surface, also one of a backend that no row has."""
    return _ANTHROPIC.get(
        status, "invalid_request_error" if status < _SERVER_ERRORS else "api_error"
    )
