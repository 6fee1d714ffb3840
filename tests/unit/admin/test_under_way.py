"""What attempts speak for, by the state they are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ingress.admin.finance.under_way import tables_of_examined
from schemas.codec import encode
from schemas.events import Booking as LogBooking
from schemas.ledger.answers import Examined, ExaminedAttempt, Spare
from schemas.ledger.documents import Booking
from tests.support.events import attempt, finished

KEY = "b:org/tokens:x"
HOLD = (Booking(key=KEY, unit="tokens", amount=100),)
SPARE = (Spare(key=KEY, amount=100),)
FIRST = (Booking(key=KEY, unit="tokens", amount=30),)


def spoken(attempts: Sequence[ExaminedAttempt], outcome: bytes = b"") -> dict[str, int]:
    """The amounts of the balance."""
    examined = Examined(
        reached=7, usage={}, balances={}, totals={}, attempts=tuple(attempts), outcome=outcome
    )
    under_way = tables_of_examined(examined).under_way
    assert under_way is not None
    return dict(under_way.amounts.get(KEY, {}))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"state": "RESERVED"}, {"reserved": 100}),
        ({"state": "RUNNING"}, {"reserved": 100}),
        ({"state": "RUNNING", "spare": SPARE}, {"reserved": 100, "spare": 100}),
        ({"state": "RUNNING", "first": FIRST}, {"reserved": 100, "settled": 30}),
        ({"state": "UNKNOWN"}, {"settled": 100}),
        ({"state": "UNKNOWN", "first": FIRST}, {"settled": 130}),
        ({"state": "UNKNOWN", "booked": "0:7"}, {}),
    ],
    ids=[
        "reserved",
        "running",
        "runs on",
        "second runs",
        "written off",
        "second written off",
        "booked",
    ],
)
def test_each_state_speaks_for_what_it_holds_or_has_settled(
    fields: dict[str, Any], wanted: dict[str, int]
) -> None:
    """Until the log has booked it."""
    assert spoken([ExaminedAttempt(req="r1", holds=HOLD, **fields)]) == wanted


def test_what_is_finished_speaks_by_its_outcome() -> None:
    """Each outcome is its request's, however many stand one behind the other."""
    outcomes = [
        encode(finished([attempt()], [LogBooking(key=KEY, unit="tokens", amount=amount)]))
        for amount in (4, 5)
    ]
    attempts = [
        ExaminedAttempt(req=f"r{n}", state="FINISHED", outcome_bytes=len(outcome))
        for n, outcome in enumerate(outcomes)
    ]

    examined = Examined(
        reached=-1,
        usage={},
        balances={},
        totals={},
        attempts=tuple(attempts),
        outcome=b"".join(outcomes),
    )

    assert spoken(attempts, b"".join(outcomes)) == {"settled": 9}
    assert list(examined.outcomes) == [("r0", outcomes[0]), ("r1", outcomes[1])]


def test_of_more_than_was_listed_nothing_is_said() -> None:
    """Otherwise what is missing there would look like a difference."""
    examined = Examined(reached=-1, usage={}, balances={}, totals={}, more=True)

    assert tables_of_examined(examined).under_way is None
