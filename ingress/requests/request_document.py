"""How one of the caller's requests reads, and the records of it: told from the log, closed-world. Pure.

What is not named here is not told: places in the log, configuration, fences and a price's other bands are the operators'.
Times are Unix milliseconds, as the log has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NotRequired, TypeAlias, TypedDict, cast

import msgspec

from ingress.apis.answer_format import UsageSummary, cost_usd, refusal_of, usage_object
from ingress.requests.job_document import JobError, error_of
from ingress.requests.outcomes import end_by_state, end_in_outcome, status_of
from schemas.events import Attempt, RequestAccepted, RequestFinished
from schemas.job_ends import usage_of
from schemas.ledger.states import State
from schemas.money import usd
from schemas.timeline import Found, assemble

RequestStatus: TypeAlias = Literal[
    "queued", "running", "completed", "failed", "refused", "cancelled", "expired"
]

_TOKENS: Final = (
    "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cache_write_tokens",
    "cache_write_1h_tokens", "audio_input_tokens", "image_input_tokens", "audio_output_tokens",
    "image_output_tokens", "tool_calls",
)  # fmt: skip
_ATTEMPT: Final = (
    "attempt", "backend", "status", "upstream_status", "started_at_ms", "first_token_at_ms",
    "finished_at_ms", *_TOKENS, "service_tier", "estimated", "price_version", "cost_nano_usd",
)  # fmt: skip
_TOLD: Final[Mapping[str, tuple[str, ...]]] = {
    "accepted": (
        "project", "key_id", "user", "route", "model", "stream", "input_tokens_bound",
        "output_tokens_bound", "deadline_ms", "payload_bytes",
    ),
    "deferred": ("not_before_ms",),
    "admitted": ("holds", "rate_status"),
    "attempt": _ATTEMPT,
    "finished": (
        "status", "http_status", "error_code", "error_message", "denial", "said", "bookings",
        "result_bytes",
    ),
    "adjusted": ("revision", *_ATTEMPT, "bookings"),
    "usage": ("usage_id", "revision", *_ATTEMPT),
}  # fmt: skip
"""By what happened, the facts of it that its caller is told."""


class AttemptShown(TypedDict):
    """One call of a backend, with what it used; `estimated` where the backend did not say that."""

    attempt: int
    backend: str
    status: str
    upstream_status: int | None
    started_at_ms: int
    first_token_at_ms: int | None
    finished_at_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    audio_input_tokens: int
    image_input_tokens: int
    audio_output_tokens: int
    image_output_tokens: int
    tool_calls: int
    service_tier: str | None
    estimated: bool
    price_version: str | None
    cost_usd: str | None


class RequestShown(TypedDict):
    """What became of a request. `usage` and `cost_usd` are of all its attempts together."""

    id: str
    object: Literal["request"]
    status: RequestStatus
    operation: str
    model: str
    project: str | None
    key_id: str
    user: str | None
    accepted_at_ms: int
    deadline_ms: int
    finished_at_ms: int | None
    http_status: int | None
    error: JobError | None
    """Why it has no result; where a limit refused it, with the facts of that limit."""
    refused_by: str | None
    """The limit that refused it, by the id that `GET /v1/limits` has for it."""
    usage: UsageSummary | None
    cost_usd: str | None
    is_estimated: bool
    """Whether a backend did not say what it used, so that a correction may follow."""
    attempts: list[AttemptShown]
    payload: NotRequired[dict[str, Any]]
    """What its backend was asked, where that was wanted."""
    result: NotRequired[dict[str, Any] | None]
    """The backend's body, where that was wanted; `null` where nothing is kept."""


class RequestEvent(TypedDict):
    """Something that happened to a request, and the facts of it."""

    object: Literal["request.event"]
    at_ms: int
    what: Literal["accepted", "deferred", "admitted", "attempt", "finished", "adjusted", "usage"]
    facts: dict[str, Any]


class RequestEvents(TypedDict):
    """The records of a request, in the order of time."""

    object: Literal["list"]
    data: list[RequestEvent]
    is_complete: bool
    """Whether none is missing that the log must have had."""


def request_document(
    accepted: RequestAccepted | None, outcome: RequestFinished | None, state: State
) -> RequestShown:
    """The request with everything known of it, of which one of the two records was found."""
    event = outcome or accepted
    assert event is not None
    shown: RequestShown = {
        "id": event.request_id,
        "object": "request",
        "status": _status(outcome, state),
        "operation": event.route,
        "model": event.model,
        "project": event.project,
        "key_id": event.key_id,
        "user": event.user,
        "accepted_at_ms": event.accepted_at_ms,
        "deadline_ms": event.deadline_ms,
        "finished_at_ms": None,
        "http_status": None,
        "error": None,
        "refused_by": None,
        "usage": None,
        "cost_usd": None,
        "is_estimated": False,
        "attempts": [],
    }
    return shown if outcome is None else _with_end(shown, outcome)


def with_texts(
    shown: RequestShown, accepted: RequestAccepted | None, outcome: RequestFinished | None
) -> RequestShown:
    """The same with what was sent and, where it was kept, what came back; both are JSON already."""
    if accepted is not None and accepted.payload:
        shown["payload"] = cast("dict[str, Any]", msgspec.Raw(accepted.payload))
    result = None if outcome is None or not outcome.result else msgspec.Raw(outcome.result)
    shown["result"] = cast("dict[str, Any] | None", result)
    return shown


def request_events(found: Iterable[Found], *, is_complete: bool) -> RequestEvents:
    """The records as their caller is told of them; copies that had no effect are left out."""
    data: list[RequestEvent] = [
        {
            "object": "request.event",
            "at_ms": step.at_ms,
            "what": cast("Any", step.what),
            "facts": {name: step.facts[name] for name in told if name in step.facts},
        }
        for step in assemble(found)
        if (told := _TOLD.get(step.what)) is not None and step.note is None
    ]
    return {"object": "list", "data": data, "is_complete": is_complete}


def _status(outcome: RequestFinished | None, state: State) -> RequestStatus:
    if outcome is not None:
        return cast("RequestStatus", outcome.status)
    implied = end_by_state(state)
    if implied is not None:
        return status_of(implied)
    return "running" if state in ("RUNNING", "RESTORED") else "queued"


def _with_end(shown: RequestShown, outcome: RequestFinished) -> RequestShown:
    usage = usage_of(outcome.attempts)
    shown["finished_at_ms"] = outcome.finished_at_ms
    shown["http_status"] = outcome.http_status
    refusal = None if outcome.error_code is None else refusal_of(end_in_outcome(outcome))
    shown["error"] = None if refusal is None else error_of(refusal)
    shown["refused_by"] = None if outcome.denial is None else outcome.denial.limit_id
    shown["usage"], shown["cost_usd"] = usage_object(usage), cost_usd(usage)
    shown["is_estimated"] = usage is not None and usage.estimated
    shown["attempts"] = _attempts(outcome.attempts)
    return shown


def _attempts(attempts: Sequence[Attempt]) -> list[AttemptShown]:
    return [_attempt(each) for each in attempts]


def _attempt(attempt: Attempt) -> AttemptShown:
    facts = {name: getattr(attempt, name) for name in _ATTEMPT}
    cost = facts.pop("cost_nano_usd")
    return cast("AttemptShown", {**facts, "cost_usd": None if cost is None else usd(cost)})
