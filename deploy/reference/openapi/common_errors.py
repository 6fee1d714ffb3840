"""Errors that whole groups of public routes may end with."""

from __future__ import annotations

from typing import Final

from schemas.errors import ErrorCode

__all__ = ["CALLER", "FRONT_DOOR"]

FRONT_DOOR: Final = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.HEADERS_TOO_LARGE,
        ErrorCode.HEADERS_TOO_SLOW,
        ErrorCode.OVERLOADED,
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.INTERNAL_ERROR,
    }
)
"""What any request may be refused with before a route is known, or when something goes wrong."""
CALLER: Final = FRONT_DOOR | {
    ErrorCode.INVALID_API_KEY,
    ErrorCode.INVALID_TOKEN,
    ErrorCode.CALLER_NOT_ALLOWED,
    ErrorCode.KEY_NOT_ALLOWED,
    ErrorCode.SIGNATURE_MISSING,
    ErrorCode.SIGNATURE_INVALID,
    ErrorCode.SIGNATURE_EXPIRED,
    ErrorCode.SIGNATURE_REPLAYED,
    ErrorCode.RATE_LIMIT_EXCEEDED,
}
