"""Which ended requests are kept to be found by key or as a job, and for how long. Pure.

The ledger knows them; their records are what it is told after it lost that. A key whose request cost nothing is
free again, so nothing is kept of it: the next try runs.
"""

from __future__ import annotations

from typing import Any

from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.ids import uuid7_time_ms
from schemas.job_ends import encode_end, end_of
from schemas.shard_events import KeptRequest
from schemas.times import PRODUCE_WITHIN_MS, LedgerTimes

__all__ = ["kept_of"]


def kept_of(
    event: RequestFinished | AttemptAdjusted, ref: RecordRef, at_ms: int, times: LedgerTimes
) -> tuple[KeptRequest, ...]:
    """What the outcome at ``ref``, appended at that time, has to be found by: nothing, for most."""
    if isinstance(event, AttemptAdjusted):
        return ()
    kept = []
    if event.idempotency_hash is not None and event.fingerprint is not None and _is_told(event):
        kept.append(
            _kept(
                event,
                ref,
                at_ms,
                times.claim_kept_ms,
                idempotency_hash=event.idempotency_hash,
                fingerprint=event.fingerprint,
            )
        )
    if event.job is not None:
        ends = encode_end(end_of(event))
        kept.append(_kept(event, ref, at_ms, times.job_kept_ms, job=event.job, ends=ends))
    return tuple(kept)


def _is_told(event: RequestFinished) -> bool:
    """Whether a later try of its key is told this end, and does not run."""
    return event.error_code is None or any(
        attempt.input_tokens or attempt.output_tokens or attempt.cost_nano_usd
        for attempt in event.attempts
    )


def _kept(
    event: RequestFinished, ref: RecordRef, at_ms: int, kept_ms: int, **found_by: Any
) -> KeptRequest:
    created_at_ms = _made_at_ms(event)
    return KeptRequest(
        request_id=event.request_id,
        org=event.org,
        created_at_ms=created_at_ms,
        produce_by_ms=event.accepted_at_ms + PRODUCE_WITHIN_MS,
        deadline_ms=event.deadline_ms,
        ended_at_ms=at_ms,
        expires_at_ms=max(created_at_ms, event.accepted_at_ms) + kept_ms,
        status=event.status,
        ran=bool(event.attempts),
        fence=event.fence,
        outcome=ref,
        **found_by,
    )


def _made_at_ms(event: RequestFinished) -> int:
    try:
        return uuid7_time_ms(event.request_id)
    except ValueError:  # An id that no ingress made.
        return event.accepted_at_ms
