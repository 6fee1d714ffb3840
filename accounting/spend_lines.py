"""What an outcome tells an external budget service: at most one spend line. Pure."""

from __future__ import annotations

from typing import Final

from schemas.budget_service import SpendLine, is_spend_balance
from schemas.events import AttemptAdjusted, Event, RequestFinished
from schemas.money import usd

__all__ = ["may_have_line", "spend_line"]

_MARK: Final = b"b:service/"


def may_have_line(record: bytes | None) -> bool:
    """Whether the record may have a line: it names such a balance. Most do not, and are not decoded."""
    return record is not None and _MARK in record


def spend_line(event: Event) -> SpendLine | None:
    """The line of an outcome, or of a correction; ``None`` where nothing is booked that the service counts."""
    if not isinstance(event, RequestFinished | AttemptAdjusted):
        return None
    spent = sum(each.amount for each in event.bookings if is_spend_balance(each.key))
    if spent == 0:
        return None
    if isinstance(event, RequestFinished):
        line_id, at_ms = event.request_id, event.finished_at_ms
    else:
        line_id = f"{event.request_id}:{event.delta.attempt}:{event.revision}"
        at_ms = event.adjusted_at_ms
    return SpendLine(
        id=line_id,
        request_id=event.request_id,
        org=event.org,
        project=event.project,
        key=event.key_id,
        user=event.user,
        model=event.model,
        spent_usd=usd(spent),
        at_ms=at_ms,
    )
