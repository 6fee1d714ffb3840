"""What to book when an attempt ends after its claim was lost. Pure.

By then the ledger has booked the attempt's whole hold, and an outcome says so. The correction takes
that back where it was booked (no backend was known, at the deadline) and books the real use where it
happened. Whatever is corrected, the request itself stays counted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from dispatcher.settlement import Job, actual_of, presumed
from schemas.events import Attempt, AttemptAdjusted, Booking
from schemas.runtime.ledger import documents

_CORRECTED: tuple[documents.Unit, ...] = ("nano_usd", "tokens")


@dataclass(frozen=True, slots=True)
class Correction:
    """Records for the log, and their sum for the ledger under one reference."""

    ref: str
    records: tuple[AttemptAdjusted, ...]
    deltas: tuple[documents.Booking, ...]


def correction(
    job: Job, number: int, attempt: Attempt | None, fence: int, now_ms: int
) -> Correction:
    """The correction of attempt ``number`` that ran under ``fence``; ``None`` if none ran."""
    changes = [_negative(presumed(job, number)), *([attempt] if attempt else [])]
    reason = f"fence {fence} was lost before the attempt ended"
    return Correction(
        ref=f"late:{fence}",
        records=tuple(
            _adjusted(job, change, revision, reason, now_ms)
            for revision, change in enumerate(changes, start=1)
        ),
        deltas=tuple(
            documents.Booking(key=b.key, unit=b.unit, amount=b.amount)  # type: ignore[arg-type]
            for b in _bookings(job, changes)
        ),
    )


def _adjusted(job: Job, delta: Attempt, revision: int, reason: str, now_ms: int) -> AttemptAdjusted:
    request = job.request
    return AttemptAdjusted(
        request_id=request.request_id,
        org=request.org,
        project=request.project,
        key_id=request.key_id,
        user=request.user,
        route=request.route,
        model=request.model,
        revision=revision,
        delta=delta,
        bookings=_bookings(job, [delta]),
        reason=reason,
        adjusted_at_ms=now_ms,
        deadline_ms=request.deadline_ms,
        parents=[job.admitted.accepted_ref, job.ref],
    )


def _bookings(job: Job, changes: Sequence[Attempt]) -> list[Booking]:
    """What the changes add to each balance that was held."""
    uses = [actual_of(change, requests=0) for change in changes]
    totals: dict[str, int] = {unit: sum(use[unit] for use in uses) for unit in _CORRECTED}
    return [
        Booking(key=hold.key, unit=hold.unit, amount=totals[hold.unit])
        for hold in job.admitted.holds
        if hold.unit in totals
    ]


def _negative(attempt: Attempt) -> Attempt:
    cost = attempt.cost_nano_usd
    return msgspec.structs.replace(
        attempt,
        input_tokens=-attempt.input_tokens,
        output_tokens=-attempt.output_tokens,
        cost_nano_usd=None if cost is None else -cost,
    )
