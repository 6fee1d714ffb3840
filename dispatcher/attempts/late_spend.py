"""What to book when an attempt ends after its claim was lost. Pure.

By then the ledger has booked the attempt's whole hold, and an outcome says so. The correction takes
that back where it was booked (no backend was known, at the deadline) and books the real use where it
happened. Whatever is corrected, the request itself stays counted once. Accounting applies it, to tables
and balances alike: one step, in the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher.work import AdmittedRequest
from schemas.attribution import attribution_of
from schemas.corrections import corrected_bookings
from schemas.events import Attempt, AttemptAdjusted
from schemas.written_off import taken_back


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
        bookings=corrected_bookings(job.admitted.holds, delta),
        reason=reason,
        adjusted_at_ms=now_ms,
        deadline_ms=job.deadline_ms,
        parents=[job.admitted.accepted_ref, job.ref],
    )
