"""How an attempt ended, decided from what happened to its call: status, ending, whether another may try,
and what it says of the backend. Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dispatcher.backends.breaker import CallEnd
from dispatcher.operations.binding import Answer
from dispatcher.upstream.upstream_failure import UpstreamFailure
from dispatcher.work import AbortReason, Result
from schemas.errors import ErrorCode
from schemas.events import Attempt, Said

ABORTED: Final[dict[AbortReason, Result]] = {
    "cancelled": Result("cancelled", ErrorCode.REQUEST_CANCELLED),
    "stale": Result("failed", ErrorCode.UPSTREAM_INTERRUPTED),
    "stopping": Result("failed", ErrorCode.SERVICE_UNAVAILABLE),
}
"""What a request that was ended from outside amounts to."""

_VERDICTS: Final[dict[ErrorCode, CallEnd]] = {
    ErrorCode.NO_BACKEND: "unreachable",
    ErrorCode.UPSTREAM_REJECTED: "succeeded",
    ErrorCode.OVERLOADED: "undecided",
    ErrorCode.UPSTREAM_RATE_LIMITED: "undecided",
}
"""What a failure says of the backend; ``failed`` where nothing stands. One that refuses a bad request
works, and one that is full is neither well nor broken."""


class AttemptEnd(msgspec.Struct, frozen=True):
    """What is known when the call is over, before it is counted and priced."""

    status: str
    ending: Result
    answer: Answer | None
    """What was read; ``None`` when the backend cannot have worked."""
    may_try_another: bool
    may_have_spent: bool
    verdict: CallEnd
    upstream_status: int | None = None
    is_cut: bool = False
    """Whether a kept connection ended before any answer."""


class AttemptResult(msgspec.Struct, frozen=True):
    """How the attempt ended, and what it cost."""

    attempt: Attempt
    ending: Result
    may_try_another: bool
    may_have_spent: bool
    verdict: CallEnd
    is_cut: bool = False
    """Whether a kept connection ended before any answer, so that the same backend may be tried again."""


def completed(
    answer: Answer, body: bytes, reason: AbortReason | None, kept: bytes = b""
) -> AttemptEnd:
    """The answer came whole; one that was cancelled meanwhile is not told of it. ``kept``: a stream's, as one."""
    is_cancelled = reason == "cancelled"
    return AttemptEnd(
        "cancelled" if is_cancelled else "succeeded",
        ABORTED["cancelled"] if is_cancelled else Result("completed", body=body, kept=kept),
        answer,
        may_try_another=False,
        may_have_spent=True,
        verdict="succeeded",
        upstream_status=200,
    )


def failed(failure: UpstreamFailure, read: Answer, *, has_streamed: bool) -> AttemptEnd:
    """The backend failed; once the client has seen a byte nobody else may try."""
    rejected, words = failure.code is ErrorCode.UPSTREAM_REJECTED, failure.words
    ending = Result(
        "failed",
        failure.code,
        http_status=failure.upstream_status if rejected else None,
        message=failure.client_message,
        retry_after_ms=failure.retry_after_ms,
        said=Said(words.code, words.param, words.type) if words.names_something else None,
    )
    verdict = _VERDICTS.get(failure.code, "failed") if failure.is_backends_fault else "undecided"
    return AttemptEnd(
        "interrupted" if has_streamed else "failed",
        ending,
        read if failure.may_have_spent else None,
        may_try_another=failure.retryable and not has_streamed,
        may_have_spent=failure.may_have_spent,
        verdict=verdict,
        upstream_status=failure.upstream_status,
        is_cut=failure.is_cut,
    )


def ended_early(
    reason: AbortReason | None,
    read: Answer,
    *,
    is_silence: bool,
    has_streamed: bool,
    may_have_spent: bool = True,
) -> AttemptEnd:
    """The deadline, one of the backend's timeouts, or somebody ended it.

    Only silence speaks against the backend: how long a client waits is its choice, how long a stream may be is ours.
    """
    is_backends_fault = reason is None and is_silence
    return AttemptEnd(
        "cancelled" if reason == "cancelled" else "interrupted",
        ABORTED[reason] if reason else Result("failed", ErrorCode.DEADLINE_EXCEEDED),
        read if may_have_spent else None,
        may_try_another=is_backends_fault and not has_streamed,
        may_have_spent=may_have_spent,
        verdict="failed" if is_backends_fault else "undecided",
    )
