"""What is produced once a request is decided: its follow-up, and what auditors are told. Pure.

Times are those of the record that was decided, so that a redelivery makes the same bytes.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from limiter_worker.accepted import DEFERRAL_HEADER, Accepted
from limiter_worker.decisions import Dispatch, Rejection
from limiter_worker.deferral import Wait
from schemas import topics
from schemas.audit import Refused
from schemas.codec import encode
from schemas.events import AuditRecorded
from schemas.headers import event_headers
from schemas.runtime.kafka.produce import Headers, Outgoing

Decision: TypeAlias = Dispatch | Rejection | Wait

_SOURCE = "limiter_worker"


def follow_up(accepted: Accepted, decision: Decision, passed_on: dict[str, bytes]) -> Outgoing:
    """The record that follows from the decision; it carries the headers ``passed_on``."""
    org = accepted.request.org.encode()
    match decision:
        case Dispatch(event=event):
            headers = _headers("request.admitted", accepted, passed_on)
            return Outgoing(topics.DISPATCH, event.request_id.encode(), encode(event), headers)
        case Rejection(outcome=outcome):
            headers = _headers("request.finished", accepted, passed_on)
            return Outgoing(topics.OUTCOMES, org, encode(outcome), headers)
        case Wait(tier=tier, event=waiting, deferral=deferral):
            more = {**passed_on, DEFERRAL_HEADER: deferral.encoded()}
            headers = _headers("request.deferred", accepted, more)
            return Outgoing(tier, org, encode(waiting), headers)


def audit_of(accepted: Accepted, decision: Decision) -> AuditRecorded | Refused | None:
    """What auditors are told: of every deferral alone, of refusals and waits in vain with their like."""
    match decision:
        case Wait():
            return _deferred(accepted, decision)
        case Rejection(outcome=outcome) if (
            outcome.status == "refused" or outcome.denial is not None
        ):
            return Refused(
                request_id=outcome.request_id,
                org=outcome.org,
                actor=outcome.key_id,
                code=outcome.error_code or "",
                at_ms=accepted.appended_at_ms,
                denial=outcome.denial,
                model=outcome.model,
            )
        case _:
            return None


def audit_record(event: AuditRecorded) -> Outgoing:
    """The record of an audit event."""
    headers = event_headers(
        "audit.recorded",
        event.audit_id,
        _SOURCE,
        event.at_ms,
        {"request_id": (event.request_id or "").encode()},
    )
    return Outgoing(topics.AUDIT, event.org.encode(), encode(event), headers)


def _headers(event: str, accepted: Accepted, more: dict[str, bytes]) -> Headers:
    at_ms = accepted.appended_at_ms
    return event_headers(event, accepted.request.request_id, _SOURCE, at_ms, more)


def _deferred(accepted: Accepted, wait: Wait) -> AuditRecorded:
    request, denial = accepted.request, msgspec.structs.asdict(wait.deferral.denial)
    detail = {"code": wait.code, **denial, "model": request.model}
    return AuditRecorded(
        audit_id=f"{request.request_id}:deferred:{wait.deferral.number}",
        org=request.org,
        action="deferred",
        actor=request.key_id,
        request_id=request.request_id,
        at_ms=accepted.appended_at_ms,
        detail=msgspec.json.encode(detail).decode(),
    )
