"""What became of a request, told from its outcome record or from the ledger's state. Pure."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from schemas.errors import ERRORS, ErrorCode
from schemas.events import RequestFinished
from schemas.frames import Terminal
from schemas.job_ends import JobEnd, usage_of

EndStatus: TypeAlias = Literal["completed", "failed", "cancelled", "expired"]

_STATUSES: Final[dict[str | None, EndStatus]] = {
    None: "completed",
    ErrorCode.REQUEST_CANCELLED: "cancelled",
    ErrorCode.DEADLINE_EXCEEDED: "expired",
    ErrorCode.RESOURCE_UNAVAILABLE: "expired",
}
_ENDS_BY_STATE: Final = {
    "CANCELLED": ErrorCode.REQUEST_CANCELLED,
    "VOIDED": ErrorCode.DEADLINE_EXCEEDED,
    "UNKNOWN": ErrorCode.UPSTREAM_INTERRUPTED,
}
_NEVER_RAN: Final = frozenset(
    {
        ErrorCode.RATE_LIMIT_EXCEEDED,
        ErrorCode.QUOTA_EXCEEDED,
        ErrorCode.BUDGET_EXCEEDED,
        ErrorCode.REQUEST_TOO_LARGE_FOR_LIMIT,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.MODEL_UNPRICED,
        ErrorCode.NO_BACKEND,
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.RESOURCE_UNAVAILABLE,
    }
)


def status_of(terminal: Terminal) -> EndStatus:
    """How it ended, in one word."""
    return _STATUSES.get(terminal.error_code, "failed")


def cost_nothing(terminal: Terminal) -> bool:
    """Whether it failed without any use of a backend, so that it may be tried again for free."""
    if terminal.error_code is None:
        return False
    usage = terminal.usage
    if usage is None:
        return terminal.error_code in _NEVER_RAN
    return not (usage.input_tokens or usage.output_tokens or usage.cost_nano_usd)


def error_end(code: ErrorCode) -> Terminal:
    """An end that only its error code is known of."""
    spec = ERRORS[code]
    return Terminal(http_status=spec.status, error_code=code, error_message=spec.title)


def end_by_state(state: str) -> Terminal | None:
    """The end that the state of an attempt implies; ``None`` where it implies none."""
    code = _ENDS_BY_STATE.get(state)
    return None if code is None else error_end(code)


def end_in_summary(end: JobEnd) -> Terminal:
    """The end of a job as lists tell it: without its result."""
    return Terminal(
        http_status=end.http_status,
        error_code=end.error_code,
        error_message=end.message,
        denial=end.denial,
        backend=end.backend,
        usage=end.usage,
        said=end.said,
    )


def end_in_outcome(outcome: RequestFinished) -> Terminal:
    """The end as its client is told of it; a result that was too large to be kept is lost.

    A hint when to come back was of its own time, and is not told again; a limit's stands in its denial.
    """
    if outcome.error_code is None and outcome.result is None:
        return error_end(ErrorCode.RESULT_LOST)
    return Terminal(
        http_status=outcome.http_status,
        body=outcome.result or b"",
        error_code=outcome.error_code,
        error_message=outcome.error_message,
        denial=outcome.denial,
        backend=outcome.attempts[-1].backend if outcome.attempts else None,
        latency_ms=outcome.finished_at_ms - outcome.accepted_at_ms,
        usage=usage_of(outcome.attempts),
        said=outcome.said,
    )


def without_frames(end: Terminal, *, is_stream: bool) -> Terminal:
    """The end alone; of a stream that succeeded that would be an answer without its content."""
    if is_stream and end.error_code is None:
        return error_end(ErrorCode.RESULT_LOST)
    return end
