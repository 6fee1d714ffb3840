"""What an outcome still books that came after another one of its request. Pure.

Its owner was told that the ledger was closed, and stood still before it wrote what its call used. Meanwhile others wrote
the attempt off, or ran the request again, and theirs is the outcome that was booked. What this one says was spent is real
all the same: it is corrected, from the two records alone.
"""

from __future__ import annotations

from typing import Final

from schemas.attribution import attribution_of
from schemas.corrections import corrected_bookings
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.written_off import UNKNOWN_BACKEND, taken_back

__all__ = ["late_corrections"]

_FIRST_REVISION: Final = 101
"""Above those of owners that correct what they ran themselves."""
_REASON: Final = "its outcome came after another one of its request"


def late_corrections(
    first: RequestFinished, late: RequestFinished, parents: list[RecordRef], at_ms: int
) -> tuple[AttemptAdjusted, ...]:
    """The corrections of what was booked by ``first``, so that the attempts of ``late`` are in the books once.

    None when both are of the same end. ``parents`` are the places of both, ``at_ms`` is when the later one was appended.
    """
    if late.fence == first.fence or not late.unsettled:
        return ()
    known = {(each.attempt, each.backend, each.started_at_ms) for each in first.attempts}
    ran = [
        each
        for each in late.attempts
        if each.backend != UNKNOWN_BACKEND
        and (each.attempt, each.backend, each.started_at_ms) not in known
    ]
    numbers = {each.attempt for each in ran}
    guessed = [
        each
        for each in first.attempts
        if each.backend == UNKNOWN_BACKEND and each.attempt in numbers
    ]
    changes = [*map(taken_back, guessed), *ran]
    return tuple(
        AttemptAdjusted(
            **attribution_of(late),
            revision=revision,
            delta=change,
            bookings=corrected_bookings(late.bookings, change),
            reason=_REASON,
            adjusted_at_ms=at_ms,
            deadline_ms=late.deadline_ms,
            parents=parents,
        )
        for revision, change in enumerate(changes, start=_FIRST_REVISION)
    )
