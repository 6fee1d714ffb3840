"""What is produced once a request is decided: its follow-up, and what auditors are told. Pure.

Times are those of the record that was decided, so that a redelivery makes the same bytes.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from limiter_worker.accepted import DEFERRAL_HEADER, Accepted
from limiter_worker.decisions import Dispatch, Rejection
from limiter_worker.deferral import Wait
from schemas.audit import Bounds, Refused
from schemas.events import AuditRecorded
from schemas.outgoing import Outgoing, admitted_record, deferred_record, outcome_record

Decision: TypeAlias = Dispatch | Rejection | Wait


def follow_up(
    accepted: Accepted, decision: Decision, passed_on: dict[str, bytes], shard: int
) -> Outgoing:
    """The record that follows from the decision; it carries the headers ``passed_on``, and an admission the
    number of its organization's ``shard``."""
    match decision:
        case Dispatch(event=event):
            return admitted_record(event, shard, passed_on)
        case Rejection(outcome=outcome):
            return outcome_record(outcome, "limiter_worker", passed_on)
        case Wait(tier=tier, event=waiting, deferral=deferral):
            more = {**passed_on, DEFERRAL_HEADER: deferral.encoded()}
            at_ms = accepted.appended_at_ms
            return deferred_record(waiting, tier, deferral.number, at_ms, more)


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
                bounds=_bounds(accepted, decision.cost_bound_nano_usd),
            )
        case _:
            return None


def _bounds(accepted: Accepted, nano_usd: int | None) -> Bounds:
    request = accepted.request
    return Bounds(request.input_tokens_bound, request.output_tokens_bound, nano_usd)


def _deferred(accepted: Accepted, wait: Wait) -> AuditRecorded:
    request, denial = accepted.request, msgspec.structs.asdict(wait.deferral.denial)
    bounds = _bounds(accepted, wait.cost_bound_nano_usd)
    detail = {"code": wait.code, **denial, "model": request.model, "bounds": bounds}
    return AuditRecorded(
        audit_id=f"{request.request_id}:deferred:{wait.deferral.number}",
        org=request.org,
        action="deferred",
        actor=request.key_id,
        request_id=request.request_id,
        at_ms=accepted.appended_at_ms,
        detail=msgspec.json.encode(detail).decode(),
    )
