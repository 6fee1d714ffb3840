"""How a job reads: its status, told from what became of its request, with result or error. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingress.answers import cost_usd, refusal_of
from ingress.dialects import usage_object
from ingress.endings import error_end, status_of
from ingress.recollection import Ended, NeverRan, Open
from ingress.refusals import Refusal, denial_fields
from schemas.errors import ErrorCode
from schemas.frames import Terminal
from schemas.ids import uuid7_time_ms

QUEUED: Final = Open("queued")


class JobFacts(msgspec.Struct, frozen=True):
    """What the ledger keeps of a job; everything else is told from what became of it."""

    model: str
    deadline_ms: int


def job_document(job_id: str, facts: JobFacts, memory: Open | Ended | NeverRan) -> dict[str, Any]:
    """The job with everything known of it; times in Unix seconds."""
    job: dict[str, Any] = {
        "id": job_id,
        "object": "job",
        "status": "queued",
        "created_at": uuid7_time_ms(job_id) // 1000,
        "expires_at": facts.deadline_ms // 1000,
        "model": facts.model,
    }
    match memory:
        case Open(status=status):
            return job | {"status": status}
        case Ended(terminal=terminal):
            return job | _ending(terminal)
        case NeverRan():
            return job | _ending(error_end(ErrorCode.DEADLINE_EXCEEDED))


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
    }
    return error if refusal.denial is None else error | denial_fields(refusal)
