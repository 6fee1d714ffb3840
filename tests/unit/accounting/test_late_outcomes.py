"""An outcome that comes after another one of its request still books what its call used, once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from accounting.late_outcomes import late_corrections
from schemas.events import Attempt, Booking, RecordRef, RequestFinished
from schemas.written_off import UNKNOWN_BACKEND
from tests.support.events import attempt, finished

_BALANCES = (
    Booking(key="b:usd", unit="nano_usd", amount=0),
    Booking(key="b:tokens", unit="tokens", amount=0),
    Booking(key="b:requests", unit="requests", amount=1),
)
_PLACES = [RecordRef(topic="inference.outcomes.v1", partition=0, offset=n) for n in (4, 9)]


def _real(number: int, cost: int, **more: Any) -> Attempt:
    return attempt(number, input_tokens=cost, output_tokens=0, cost_nano_usd=cost, **more)


def _guess(number: int, cost: int) -> Attempt:
    return msgspec.structs.replace(
        _real(number, cost), backend=UNKNOWN_BACKEND, status="unknown", estimated=True
    )


def _outcome(fence: int, *attempts: Attempt, unsettled: bool = False) -> RequestFinished:
    found = finished(list(attempts), list(_BALANCES), fence=fence)
    return msgspec.structs.replace(found, unsettled=unsettled)


@pytest.mark.parametrize(
    ("first", "late", "spent"),
    [
        ([_guess(1, 50)], [_real(1, 7)], 7),
        ([_guess(1, 50), _real(2, 9)], [_real(1, 7)], 16),
        ([_real(1, 7), _guess(2, 50)], [_real(1, 7), _real(2, 3)], 10),
        ([_guess(1, 50), _guess(2, 50)], [_real(1, 7), _real(2, 3)], 10),
        ([_guess(1, 50), _real(2, 9)], [_guess(1, 50), _real(2, 3, backend="b2")], 62),
        ([], [_real(1, 7)], 7),
    ],
    ids=["reaped", "run again", "second reaped", "both reaped", "two seconds", "ended unrun"],
)
def test_both_together_book_what_was_spent(
    first: list[Attempt], late: list[Attempt], spent: int
) -> None:
    """Guesses give way to what is known; what another ran stays. On each balance and in the usage alike."""
    before, after = _outcome(2, *first), _outcome(1, *late, unsettled=True)
    changes = late_corrections(before, after, _PLACES, 77)
    booked = sum(each.cost_nano_usd or 0 for each in before.attempts)

    assert booked + sum(each.delta.cost_nano_usd or 0 for each in changes) == spent
    for unit in ("nano_usd", "tokens"):
        amounts = [b.amount for each in changes for b in each.bookings if b.unit == unit]
        assert booked + sum(amounts) == spent
    assert len({(each.delta.attempt, each.revision) for each in changes}) == len(changes)
    assert all(each.adjusted_at_ms == 77 and each.parents == _PLACES for each in changes)
    assert not any(b.unit == "requests" for each in changes for b in each.bookings)


@pytest.mark.parametrize(("fence", "unsettled"), [(2, True), (1, False)])
def test_a_copy_and_an_end_that_the_ledger_settled_change_nothing(
    fence: int, unsettled: bool
) -> None:
    """The same end was produced twice; or its owner was told, and corrects by itself."""
    before = _outcome(2, _guess(1, 50))
    late = _outcome(fence, _real(1, 7), unsettled=unsettled)

    assert late_corrections(before, late, _PLACES, 77) == ()
