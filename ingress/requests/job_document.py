"""How a job reads: its status, told from what became of its request, with result or error. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingress.apis.answer_format import cost_usd, refusal_of, usage_object
from ingress.http.refusals import Refusal, denial_fields, upstream_fields
from ingress.requests.outcomes import end_by_state, end_in_summary, error_end, status_of
from ingress.requests.request_state import Ended, NeverRan, Open
from schemas.errors import ErrorCode
from schemas.frames import Terminal
from schemas.ids import uuid7_time_ms
from schemas.job_ends import read_end
from schemas.ledger import answers

QUEUED: Final = Open("queued")
RETRY_AFTER: Final = b"2"
"""Seconds after which to ask again for a job that is open."""


class JobFacts(msgspec.Struct, frozen=True, array_like=True):
    """What the ledger keeps of a job; everything else is told from what became of it."""

    model: str
    deadline_ms: int
    owner: str | None = None
    """Whose own job it is; ``None`` for one of a program, which all programs of its organization share."""

    def encoded(self) -> str:
        """As kept in the ledger and in the log."""
        facts: tuple[object, ...] = (self.model, self.deadline_ms)
        return msgspec.json.encode(facts if self.owner is None else (*facts, self.owner)).decode()

    def is_open_to(self, owner: str | None) -> bool:
        """Whether a caller may see it: programs see all of their organization, users only their own."""
        return owner is None or owner == self.owner


def read_facts(info: str) -> JobFacts | None:
    """The facts in a text of the ledger; ``None`` when they are none of ours."""
    try:
        return msgspec.json.decode(info, type=JobFacts)
    except msgspec.DecodeError:
        return None


def job_document(job_id: str, facts: JobFacts, found: Open | Ended | NeverRan) -> dict[str, Any]:
    """The job with everything known of it; times in Unix seconds."""
    job: dict[str, Any] = {
        "id": job_id,
        "object": "job",
        "status": "queued",
        "created_at": uuid7_time_ms(job_id) // 1000,
        "expires_at": facts.deadline_ms // 1000,
        "model": facts.model,
    }
    match found:
        case Open(status=status):
            return job | {"status": status}
        case Ended(terminal=terminal):
            return job | _ending(terminal)
        case NeverRan():
            return job | _ending(error_end(ErrorCode.DEADLINE_EXCEEDED))


def listed_job(entry: answers.JobEntry, now_ms: int) -> dict[str, Any] | None:
    """The job as a list tells it, from the ledger alone; ``None`` when its facts are none of ours."""
    facts = read_facts(entry.info)
    if facts is None:
        return None
    job = job_document(entry.req, facts, _summary(entry, facts.deadline_ms, now_ms))
    return {field: value for field, value in job.items() if field != "result"}


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


def _ending(terminal: Terminal) -> dict[str, Any]:
    fields: dict[str, Any] = {"status": status_of(terminal)}
    refusal = refusal_of(terminal)
    if refusal is None:
        fields["result"] = msgspec.Raw(terminal.body)
    else:
        fields["error"] = _error(refusal)
    if terminal.usage is not None:
        fields["usage"] = usage_object(terminal.usage)
        fields["cost_usd"] = cost_usd(terminal.usage)
        fields["backend"] = terminal.backend
    return fields


def _error(refusal: Refusal) -> dict[str, Any]:
    error = {
        "code": refusal.code.value,
        "message": refusal.message,
        "status": refusal.status,
        **upstream_fields(refusal),
    }
    return error if refusal.denial is None else error | denial_fields(refusal)
