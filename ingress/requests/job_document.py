"""How a job reads: its status, told from what became of its request, with result or error. Pure."""

from __future__ import annotations

from typing import Any, Final, Literal, NotRequired, TypeAlias, TypedDict, cast

import msgspec

from ingress.apis.answer_format import UsageSummary, cost_usd, refusal_of, usage_object
from ingress.http.refusals import Refusal, limit_facts
from ingress.requests.outcomes import EndStatus, end_by_state, end_in_summary, error_end, status_of
from ingress.requests.request_state import Ended, NeverRan, Open
from schemas.error_bodies import Amount, LimitType, UpstreamFields
from schemas.errors import ErrorCode
from schemas.frames import Terminal
from schemas.ids import uuid7_time_ms
from schemas.job_ends import read_end
from schemas.job_facts import JobFacts, read_facts
from schemas.ledger import answers

JobStatus: TypeAlias = Literal["queued", "running"] | EndStatus
QUEUED: Final = Open("queued")
OPEN: Final[frozenset[JobStatus]] = frozenset({"queued", "running"})
"""Statuses of jobs that have not ended."""
RETRY_AFTER: Final = b"2"
"""Seconds after which to ask again for a job that is open."""


class JobError(UpstreamFields):
    """Why a job has no result; where a limit refused it, with the facts of that limit."""

    code: ErrorCode
    message: str
    status: int
    limit_type: NotRequired[LimitType]
    current_usage: NotRequired[Amount]
    limit: NotRequired[Amount]
    retry_after: NotRequired[int | None]


class JobEnding(TypedDict, total=False):
    """How a job ended; `result` is the backend's own body, and lists leave it out."""

    result: dict[str, Any]
    error: JobError
    usage: UsageSummary | None
    cost_usd: str | None
    backend: str | None


class Job(JobEnding):
    """A request whose client fetches its answer. Times are Unix seconds."""

    id: str
    object: Literal["job"]
    status: JobStatus
    created_at: int
    expires_at: int
    model: str


class JobList(TypedDict):
    """A page of jobs, newest first."""

    object: Literal["list"]
    data: list[Job]
    has_more: bool


def job_document(job_id: str, facts: JobFacts, found: Open | Ended | NeverRan) -> Job:
    """The job with everything known of it; times in Unix seconds."""
    status, ending = _end_of(found)
    return {
        "id": job_id,
        "object": "job",
        "status": status,
        "created_at": uuid7_time_ms(job_id) // 1000,
        "expires_at": facts.deadline_ms // 1000,
        "model": facts.model,
        **ending,
    }


def _end_of(found: Open | Ended | NeverRan) -> tuple[JobStatus, JobEnding]:
    match found:
        case Open(status=status):
            return status, {}
        case Ended(terminal=terminal):
            return status_of(terminal), _ending(terminal)
        case NeverRan():
            terminal = error_end(ErrorCode.DEADLINE_EXCEEDED)
            return status_of(terminal), _ending(terminal)


def listed_job(entry: answers.JobEntry, now_ms: int) -> Job | None:
    """The job as a list tells it, from the ledger alone; ``None`` when its facts are none of ours."""
    facts = read_facts(entry.info)
    if facts is None:
        return None
    job = job_document(entry.req, facts, _summary(entry, facts.deadline_ms, now_ms))
    job.pop("result", None)
    return job


def _summary(entry: answers.JobEntry, deadline_ms: int, now_ms: int) -> Open | Ended | NeverRan:
    end = read_end(entry.ends) if entry.ends is not None else None
    if end is not None:
        return Ended(end_in_summary(end), is_on_bus=False)
    implied = end_by_state(entry.state)
    if implied is not None:
        return Ended(implied, is_on_bus=False)
    if entry.state in ("RUNNING", "RESTORED"):
        return Open("running")
    if now_ms < deadline_ms or entry.state == "RESERVED":
        return Open("queued")  # A refusal's reason comes with its booking.
    return Ended(error_end(ErrorCode.RESULT_LOST), is_on_bus=False) if entry.state else NeverRan()


def _ending(terminal: Terminal) -> JobEnding:
    fields: JobEnding = {}
    refusal = refusal_of(terminal)
    if refusal is None and terminal.body:
        fields["result"] = cast("dict[str, Any]", msgspec.Raw(terminal.body))
    elif refusal is not None:
        fields["error"] = error_of(refusal)
    if terminal.usage is not None:
        fields["usage"] = usage_object(terminal.usage)
        fields["cost_usd"] = cost_usd(terminal.usage)
        fields["backend"] = terminal.backend
    return fields


def error_of(refusal: Refusal) -> JobError:
    """Why something has no result."""
    error: JobError = {
        "code": refusal.code,
        "message": refusal.message,
        "status": refusal.status,
    }
    if refusal.said.code is not None:
        error["upstream_code"] = refusal.said.code
    if refusal.said.param is not None:
        error["upstream_param"] = refusal.said.param
    if refusal.denial is not None:
        facts = limit_facts(refusal)
        error["limit_type"], error["limit"] = facts["limit_type"], facts["limit"]
        error["current_usage"], error["retry_after"] = facts["current_usage"], facts["retry_after"]
    return error
