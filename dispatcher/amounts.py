"""What a request's attempts amount to: bookings, outcome, terminal frame. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from dispatcher.work import AdmittedRequest, Result
from schemas.attribution import attribution_of, found_by
from schemas.errors import ERRORS, ErrorCode
from schemas.events import (
    Attempt,
    Booking,
    PinnedPrice,
    Reach,
    RequestAccepted,
    RequestFinished,
    Said,
    ToolCalls,
)
from schemas.frames import Terminal
from schemas.job_ends import usage_of
from schemas.ledger import keys
from schemas.ledger.documents import RateUse, Unit
from schemas.operations import RESPONSES
from schemas.pricing.cost import cost
from schemas.pricing.counts import TokenCounts
from schemas.rates import rates_of
from schemas.responses import ResponseStatus, response_status
from schemas.written_off import written_off

RESULT_BYTES_MAX = 4 * 1024 * 1024
"""What is kept of an answer; a longer one is given once and lost."""
TEXT_CHARS_MAX = 200


NOTHING: Final = TokenCounts(0, 0)
"""Of a call that cannot have reached its backend's work: not even a fee."""


def used(
    price: PinnedPrice | None, tokens: TokenCounts, tier: str | None = None, backend: str = ""
) -> int | None:
    """Cost of what was used in a service tier of a backend, at the pinned price; ``None`` without one."""
    if price is None:
        return None
    return 0 if tokens is NOTHING else cost(price, tokens, tier, backend)


def as_asked(tokens: TokenCounts, reach: Reach | None) -> TokenCounts:
    """The counts with calls under the kind that was asked for: answers count searches, whatever their size
    (``web_search``), and the request said which has to be paid (``web_search:high``)."""
    if reach is None or not tokens.tool_kinds:
        return tokens
    asked = {kind.partition(":")[0]: kind for kind in reach.tool_kinds}
    kinds = tuple((asked.get(kind, kind), calls) for kind, calls in tokens.tool_kinds)
    return msgspec.structs.replace(tokens, tool_kinds=kinds)


def tool_calls(tokens: TokenCounts) -> list[ToolCalls] | None:
    """The calls of hosted tools by kind, as an attempt says them."""
    return [ToolCalls(kind=kind, calls=calls) for kind, calls in tokens.tool_kinds] or None


def actual_of(attempt: Attempt | None, *, requests: int) -> dict[Unit, int]:
    """What the attempt used of each unit a balance may count; nothing if none ran."""
    return {
        "nano_usd": (attempt.cost_nano_usd or 0) if attempt else 0,
        "tokens": attempt.input_tokens + attempt.output_tokens if attempt else 0,
        "requests": requests,
    }


def token_uses(job: AdmittedRequest, attempts: Sequence[Attempt]) -> tuple[RateUse, ...]:
    """What all attempts together used of the buckets of tokens, which were charged the bound.

    Names every bucket the request may have been charged for; the ledger knows which it was.
    """
    request = job.request
    units = sum(attempt.input_tokens + attempt.output_tokens for attempt in attempts)
    owners = (("project", request.project), ("key", request.key_id), ("user", request.user))
    scopes = [keys.ORG_SCOPE, *(keys.scope(kind, name) for kind, name in owners if name)]
    return tuple(RateUse(key=keys.token_rate_suffix(scope), units=units) for scope in scopes)


def ending_again(finished: RequestFinished, *, has_chunks: bool) -> Result:
    """How a request ended, from its outcome: its result where that was kept.

    ``has_chunks``: all content of a stream is on the bus, since chunks are stored before a request is
    closed; only the end of it is missing. When to come back is not told again: that hint was of its own time.
    """
    if finished.error_code is not None:
        code = ErrorCode(finished.error_code)
        return Result(
            finished.status,
            code,
            http_status=finished.http_status,
            message=finished.error_message,
            said=finished.said,
        )
    if has_chunks:
        return Result(finished.status)
    if finished.result is not None:
        return Result(finished.status, body=finished.result)
    return Result("failed", ErrorCode.RESULT_LOST)


def written_off_attempt(job: AdmittedRequest, number: int) -> Attempt:
    """An attempt whose owner vanished: its whole hold, as the ledger booked it, by no known backend.

    As the reaper writes it, so that a correction fits both.
    """
    request = job.request
    booked = {hold.unit: hold.amount for hold in job.admitted.holds}
    return written_off(
        number,
        booked,
        is_priced="nano_usd" in booked,
        input_tokens_bound=request.input_tokens_bound,
        accepted_at_ms=request.accepted_at_ms,
        deadline_ms=job.deadline_ms,
    )


def is_kept(request: RequestAccepted) -> bool:
    """Whether the outcome carries the answer: somebody fetches it, or may refer to it."""
    return request.keep_result or request.shown is not None


def outcome(
    job: AdmittedRequest, attempts: Sequence[Attempt], ending: Result, fence: int, now_ms: int
) -> RequestFinished:
    """The outcome record of the request."""
    request = job.request
    answer = ending.body or ending.kept
    keeps = is_kept(request) and len(answer) <= RESULT_BYTES_MAX
    return RequestFinished(
        **attribution_of(request),
        **found_by(request),
        status=ending.status,
        http_status=ending.answered_status,
        error_code=ending.code,
        error_message=ending.client_message,
        accepted_at_ms=request.accepted_at_ms,
        finished_at_ms=now_ms,
        deadline_ms=job.deadline_ms,
        fence=fence,
        attempts=list(attempts),
        bookings=_bookings(job, attempts),
        parents=[job.admitted.accepted_ref, job.ref],
        result=answer if keeps and answer else None,
        said=ending.said,
        response_status=_response_status(request, ending, answer),
    )


def _response_status(
    request: RequestAccepted, ending: Result, answer: bytes
) -> ResponseStatus | None:
    """How a response reads whose client fetches it: what is told of its end is told without its answer."""
    if request.job is None or request.route != RESPONSES.name or ending.code is not None:
        return None
    return response_status(answer)


def without_result(finished: RequestFinished) -> RequestFinished:
    """The outcome small enough for any broker: the same end and the same money."""
    said = finished.said
    return msgspec.structs.replace(
        finished,
        result=None,
        result_ref=None,
        result_sha256=None,
        error_message=_bounded(finished.error_message),
        attempts=[
            msgspec.structs.replace(attempt, provider_id=_bounded(attempt.provider_id))
            for attempt in finished.attempts
        ],
        said=said and Said(_bounded(said.code), _bounded(said.param), _bounded(said.type)),
    )


def _bounded(text: str | None) -> str | None:
    return text and text[:TEXT_CHARS_MAX].encode(errors="replace").decode()


def _bookings(job: AdmittedRequest, attempts: Sequence[Attempt]) -> list[Booking]:
    """What each balance was settled with, all attempts together; the request counts once."""
    totals: dict[str, int] = {"requests": 1 if attempts else 0, "nano_usd": 0, "tokens": 0}
    for attempt in attempts:
        totals["nano_usd"] += attempt.cost_nano_usd or 0
        totals["tokens"] += attempt.input_tokens + attempt.output_tokens
    return [
        Booking(key=hold.key, unit=hold.unit, amount=totals[hold.unit])
        for hold in job.admitted.holds
    ]


def terminal(
    job: AdmittedRequest, attempts: Sequence[Attempt], ending: Result, now_ms: int
) -> Terminal:
    """The frame that ends the client's wait."""
    last = attempts[-1] if attempts else None
    code = ending.code
    hint = ending.retry_after_ms or (ERRORS[code].retry_after_ms if code else None)
    return Terminal(
        http_status=ending.answered_status,
        body=ending.body,
        error_code=code,
        error_message=ending.client_message,
        retry_after_ms=hint,
        backend=last.backend if last else None,
        latency_ms=now_ms - job.request.accepted_at_ms,
        usage=usage_of(attempts),
        rates=rates_of(job.admitted),
        said=ending.said,
    )
