"""What to book when an attempt ends after its claim was lost. Pure.

By then the ledger has booked the attempt's whole hold, and an outcome says so. The correction takes
that back where it was booked (no backend was known, at the deadline) and books the real use where it
happened. Whatever is corrected, the request itself stays counted once. Accounting applies it, to tables
and balances alike: one step, in the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher.amounts import actual_of
from dispatcher.work import AdmittedRequest
from schemas.attribution import attribution_of
from schemas.events import Attempt, AttemptAdjusted, Booking
from schemas.ledger import documents
from schemas.written_off import taken_back

_CORRECTED: tuple[documents.Unit, ...] = ("nano_usd", "tokens")


def corrections(
    job: AdmittedRequest,
    booked: Sequence[Attempt],
    attempts: Sequence[Attempt],
    fence: int,
    now_ms: int,
) -> tuple[AttemptAdjusted, ...]:
    """The corrections of what ran under ``fence`` and before it: back with what was ``booked`` for that, and
    on the books with the ``attempts`` themselves."""
    changes = [*map(taken_back, booked), *attempts]
    reason = f"fence {fence} was lost before the attempt ended"
    return tuple(
        _adjusted(job, change, revision, reason, now_ms)
        for revision, change in enumerate(changes, start=1)
    )


def _adjusted(
    job: AdmittedRequest, delta: Attempt, revision: int, reason: str, now_ms: int
) -> AttemptAdjusted:
    request = job.request
    return AttemptAdjusted(
        **attribution_of(request),
        revision=revision,
        delta=delta,
        bookings=_bookings(job, [delta]),
        reason=reason,
        adjusted_at_ms=now_ms,
        deadline_ms=request.deadline_ms,
        parents=[job.admitted.accepted_ref, job.ref],
    )


def _bookings(job: AdmittedRequest, changes: Sequence[Attempt]) -> list[Booking]:
    """What the changes add to each balance that was held."""
    uses = [actual_of(change, requests=0) for change in changes]
    totals: dict[str, int] = {unit: sum(use[unit] for use in uses) for unit in _CORRECTED}
    return [
        Booking(key=hold.key, unit=hold.unit, amount=totals[hold.unit])
        for hold in job.admitted.holds
        if hold.unit in totals
    ]
