"""From the ledger's answer to what happens: dispatch, end with an outcome, or nothing. Pure.

A refusal's time is the time its request was appended, so that a redelivery makes the same bytes.
"""

from __future__ import annotations

from typing import Final, TypeAlias, assert_never

import msgspec

from limiter_worker.accepted import Accepted
from limiter_worker.external_budget.verdicts import POLICY_DENIED, denial_of, is_of_service
from limiter_worker.limits import AdmissionRequest, kind_of_limit
from schemas.attribution import attribution_of, found_by
from schemas.clock_estimate import APPEND_MARGIN_MS
from schemas.errors import ERRORS, ErrorCode
from schemas.events import Denial, RequestAccepted, RequestAdmitted, RequestFinished
from schemas.flex import is_flex
from schemas.frames import Terminal
from schemas.ids import uuid7_time_ms
from schemas.ledger import answers
from schemas.ledger.documents import DeclineReason
from schemas.pricing.bound import bound

Decidable: TypeAlias = (
    answers.Admitted | answers.Limited | answers.Refused | answers.Contended | answers.Declined
    | answers.Expired | answers.Cancelled
)  # fmt: skip


class Dispatch(msgspec.Struct, frozen=True):
    """Admitted: produce this for the dispatcher."""

    event: RequestAdmitted


class Rejection(msgspec.Struct, frozen=True):
    """Over: produce this outcome and tell the client."""

    outcome: RequestFinished
    terminal: Terminal
    cost_bound_nano_usd: int | None = None
    """The most that the request could have cost; ``None`` without a price. Auditors are told."""


def denial_in(decision: Dispatch | Rejection) -> Denial | None:
    """The limit that refused, if one did."""
    return decision.outcome.denial if isinstance(decision, Rejection) else None


def was_produced_too_late(accepted: Accepted, happened_ms: int | None) -> bool:
    """Whether ingress had given up on the produce, and answered 503, before it arrived.

    ``happened_ms`` is the append in the ledger's time. While that is not known nothing is late: ingress
    cancels whatever it gives up.
    """
    if accepted.deferral is not None or happened_ms is None:
        return False
    return happened_ms > accepted.request.produce_by_ms + APPEND_MARGIN_MS


def may_be_forgotten(request: RequestAccepted, now_ms: int, ended_kept_ms: int) -> bool:
    """Whether the request may have ended so long ago that the ledger knows nothing of it any more.

    An id that carries no time was made by no ingress, and has no place in the log to look for it.
    """
    if now_ms + APPEND_MARGIN_MS <= request.deadline_ms + ended_kept_ms:
        return False
    try:
        return uuid7_time_ms(request.request_id) > 0
    except ValueError:
        return False


def may_wait(answer: Decidable) -> bool:
    """Whether the same request may succeed later by itself, so that waiting is of use."""
    return isinstance(answer, answers.Contended | answers.Limited)


def decide(accepted: Accepted, terms: AdmissionRequest, answer: Decidable) -> Dispatch | Rejection:
    """What the answer means for the request. An admission is made on the terms that were agreed to."""
    match answer:
        case answers.Admitted():
            assert terms.agreed is not None, "nothing that is declined is admitted"
            return Dispatch(terms.agreed.event(accepted, answer))
        case answers.Limited():
            denial, cost = _denial(answer, answer.retry_after_ms), _cost_bound(accepted, terms)
            return refuse(accepted, ErrorCode.RATE_LIMIT_EXCEEDED, denial, None, cost)
        case answers.Contended():
            denial, cost = _denial(answer, answer.retry_after_ms), _cost_bound(accepted, terms)
            return refuse(accepted, _spent_code(denial), denial, 429, cost)
        case answers.Refused():
            denial, cost = _denial(answer, None), _cost_bound(accepted, terms)
            is_too_large = answer.why == "too_large"
            code = ErrorCode.REQUEST_TOO_LARGE_FOR_LIMIT if is_too_large else _spent_code(denial)
            return refuse(accepted, code, denial, None, cost)
        case answers.Declined():
            status, code = _DECLINES[answer.why]
            return end(accepted, status, code, retry_after_ms=answer.retry_after_ms or None)
        case answers.Expired():
            return _expire(accepted)
        case answers.Cancelled():
            return end(accepted, "cancelled", ErrorCode.REQUEST_CANCELLED)
        case _:
            assert_never(answer)


def refuse(
    accepted: Accepted,
    code: ErrorCode,
    denial: Denial,
    http_status: int | None = None,
    cost_bound_nano_usd: int | None = None,
) -> Rejection:
    """A refusal by a limit."""
    message = f"{ERRORS[code].title}: {denial.limit_id}"
    refusal = end(
        accepted, "refused", code, message=message, denial=denial, http_status=http_status
    )
    return Rejection(refusal.outcome, refusal.terminal, cost_bound_nano_usd)


def _cost_bound(accepted: Accepted, terms: AdmissionRequest) -> int | None:
    """What it would have held in money, whether or not a budget counts that."""
    price, request = None if terms.agreed is None else terms.agreed.pinned, accepted.request
    if price is None:
        return None
    return bound(price, request.reach, request.input_tokens_bound, request.output_tokens_bound)


def end(
    accepted: Accepted,
    status: str,
    code: ErrorCode,
    *,
    message: str | None = None,
    denial: Denial | None = None,
    http_status: int | None = None,
    retry_after_ms: int | None = None,
) -> Rejection:
    """An end before any backend was called."""
    request = accepted.request
    spec = ERRORS[code]
    answered = http_status or spec.status
    told = message or spec.title
    outcome = RequestFinished(
        **attribution_of(request),
        **found_by(request),
        status=status,
        http_status=answered,
        error_code=code,
        error_message=told,
        denial=denial,
        accepted_at_ms=request.accepted_at_ms,
        finished_at_ms=accepted.appended_at_ms,
        deadline_ms=request.deadline_ms,
        fence=0,
        attempts=[],
        bookings=[],
        parents=accepted.parents,
    )
    terminal = Terminal(
        http_status=answered,
        error_code=code,
        error_message=told,
        denial=denial,
        retry_after_ms=denial.retry_after_ms if denial else retry_after_ms or spec.retry_after_ms,
    )
    return Rejection(outcome, terminal)


_DECLINES: Final[dict[DeclineReason, tuple[str, ErrorCode]]] = {
    "overloaded": ("refused", ErrorCode.OVERLOADED),
    "unavailable": ("refused", ErrorCode.SERVICE_UNAVAILABLE),
    "late": ("expired", ErrorCode.SERVICE_UNAVAILABLE),
    "revoked": ("refused", ErrorCode.INVALID_API_KEY),
    "gone": ("refused", ErrorCode.MODEL_NOT_FOUND),
    "unpriced": ("refused", ErrorCode.MODEL_UNPRICED),
    "defect": ("failed", ErrorCode.INTERNAL_ERROR),
    "taken": ("refused", ErrorCode.IDEMPOTENCY_IN_FLIGHT),
    "rolled": ("expired", ErrorCode.SERVICE_UNAVAILABLE),
}
"""How a request ends against which no limit stands: the gateway itself ended it."""


def _expire(accepted: Accepted) -> Rejection:
    """The deadline passed; a request that waited for a limit is told which, and one that waited for room that."""
    if is_flex(accepted.request):
        return end(accepted, "expired", ErrorCode.RESOURCE_UNAVAILABLE)
    code = ErrorCode.DEADLINE_EXCEEDED
    if accepted.deferral is None:
        return end(accepted, "expired", code)
    denial = accepted.deferral.denial
    message = f"{ERRORS[code].title} while the request waited for {denial.limit_id}"
    return end(accepted, "expired", code, message=message, denial=denial)


def _spent_code(denial: Denial) -> ErrorCode:
    if denial.limit_id == POLICY_DENIED:
        return ErrorCode.SERVICE_UNAVAILABLE  # Nobody knows of a budget that is spent.
    return _SPENT[denial.limit_type]


_SPENT: Final = {
    "budget": ErrorCode.BUDGET_EXCEEDED,
    "quota": ErrorCode.QUOTA_EXCEEDED,
    "rate_limit": ErrorCode.RATE_LIMIT_EXCEEDED,
}
"""Rates refuse so only in the word of an external budget service."""


def _denial(
    answer: answers.Limited | answers.Contended | answers.Refused,
    retry_after_ms: int | None,
) -> Denial:
    if is_of_service(answer.id):
        return denial_of(answer.id, answer.usage, answer.limit, retry_after_ms)
    limit_type, unit = kind_of_limit(answer.id)
    return Denial(
        limit_id=answer.id,
        limit_type=limit_type,
        unit=unit,
        current_usage=answer.usage,
        limit=answer.limit,
        retry_after_ms=retry_after_ms,
    )
