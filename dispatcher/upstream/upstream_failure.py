"""What a backend's failed call is called: every way to fail is one ``UpstreamFailure``. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from dispatcher.upstream import foreign
from schemas.errors import ErrorCode
from schemas.failures import Failure

_OWN_FAULT: Final = frozenset({401, 403, 407})
"""A backend that refuses our credentials: nothing the client can change."""
_TRY_ELSEWHERE: Final = frozenset({408, 425, 429})


class UpstreamFailure(Failure):
    """A call that gave no completion.

    ``what`` happened is for our logs: kinds, statuses and sizes, no text of a backend, no host. ``told``
    are the backend's own words for the client. ``may_have_spent``: whether the backend may have worked
    before it failed. ``retryable``: whether another backend may succeed. ``said`` is the body of a refusal, as far
    as it was read.
    """

    def __init__(
        self,
        code: ErrorCode,
        what: str,
        *,
        may_have_spent: bool,
        retryable: bool = True,
        client_message: str | None = None,
        upstream_status: int | None = None,
        retry_after_ms: int | None = None,
        said: bytes = b"",
    ) -> None:
        super().__init__(what)
        self.code = code
        self.client_message = client_message
        self.may_have_spent = may_have_spent
        self.retryable = retryable
        self.upstream_status = upstream_status
        self.retry_after_ms = retry_after_ms
        self.said = said


class _ErrorDetail(msgspec.Struct, frozen=True):
    message: str | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _ErrorDetail | None = None


_ERRORS: Final = msgspec.json.Decoder(_ErrorBody)


def refusal(sent_status: int, retry_after: str | None, body: bytes, now_ms: int) -> UpstreamFailure:
    """A status other than 200, in our terms. It cannot have spent."""
    status = foreign.status(sent_status)
    client_message = _told(body) or (f"the backend answered {status}" if status else None)
    what = f"status {sent_status}, {len(body)} bytes"
    if status in _TRY_ELSEWHERE:
        return UpstreamFailure(
            ErrorCode.OVERLOADED,
            what,
            may_have_spent=False,
            client_message=client_message,
            upstream_status=status,
            retry_after_ms=foreign.retry_after_ms(retry_after, now_ms),
        )
    client_fault = 400 <= sent_status < 500 and status not in _OWN_FAULT  # noqa: PLR2004  # HTTP 4xx
    return UpstreamFailure(
        ErrorCode.UPSTREAM_REJECTED if client_fault else ErrorCode.UPSTREAM_ERROR,
        what,
        may_have_spent=False,
        retryable=not client_fault,
        client_message=client_message,
        upstream_status=status,
        said=body,
    )


def _told(body: bytes) -> str | None:
    """The message in an error body of the known shape, whatever bytes are in it."""
    try:
        parsed = _ERRORS.decode(body.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return foreign.message(parsed.error.message) if parsed.error else None
