"""A difference names the requests that explain it, and the rows that differ."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ingress.admin.finance.explain import (
    Booked,
    Explanation,
    booked_by,
    cells_of,
    explain,
    rows_that_differ,
)
from ingress.admin.finance.reconcile import Finding, Kind
from ingress.admin.finance.verify import NOTHING_UNDER_WAY, Difference, UnderWay
from schemas.events import AttemptAdjusted, Booking
from schemas.usage import UsageRow, cell
from tests.support.events import attempt, finished
from tests.unit.admin.test_verify import HOUR, LINE

BALANCE = "b:org/tokens:x"
OF_BALANCE = Difference("acme", BALANCE, "settled", 107, 100)
OF_USAGE = Difference("acme", f"u:{HOUR}", "output_tokens", 107, 100)


def booked(request_id: str, amount: int) -> Booked:
    return Booked(request_id, {BALANCE: amount}, {HOUR: {"output_tokens": amount}})


def finding(kind: Kind, request_id: str = "r9") -> Finding:
    return Finding(kind, "acme", request_id, request_id, "")


def explained(difference: Difference, **more: Any) -> Explanation:
    given: dict[str, Any] = {"under_way": NOTHING_UNDER_WAY, "findings": (), "booked": ()} | more
    return explain(difference, **given)


@pytest.mark.parametrize("difference", [OF_BALANCE, OF_USAGE])
def test_who_booked_there_since_the_books_were_equal_is_named(difference: Difference) -> None:
    """Whoever booked just that amount first, then the newest; who booked elsewhere not at all."""
    elsewhere = Booked("r0", {"b:key/k": 7}, {"1970-01-02T09": {"output_tokens": 7}})
    there = [booked("r1", 5), booked("r2", 7), booked("r3", 5), elsewhere]

    told = explained(difference, booked=there)

    assert told == Explanation("booked since equal", ("r2", "r3", "r1"), 3)


@pytest.mark.parametrize(
    ("kind", "difference"),
    [
        ("outcome_without_usage_line", OF_USAGE),
        ("usage_line_without_outcome", OF_USAGE),
        ("usage_line_differs", OF_USAGE),
        ("outcome_not_booked", OF_USAGE),
        ("outcome_not_booked", OF_BALANCE),
        ("booked_not_settled", OF_BALANCE),
    ],
)
def test_what_does_not_fit_by_id_comes_before_what_may_be(
    kind: Kind, difference: Difference
) -> None:
    """It is the reason; the others are only near it."""
    told = explained(difference, findings=[finding(kind)], booked=[booked("r1", 7)])

    assert told == Explanation("does not fit", ("r9",), 1)


def test_a_misfit_of_another_kind_explains_nothing() -> None:
    """A missing line changes no balance, and a line that stands twice nothing at all."""
    lineless, doubled = finding("outcome_without_usage_line"), finding("usage_line_doubled")

    assert explained(OF_BALANCE, findings=[lineless]).because == "nothing found"
    assert explained(OF_USAGE, findings=[doubled]).because == "nothing found"


def test_of_what_is_held_the_holders_are_named() -> None:
    """No outcome speaks of a hold."""
    holding = UnderWay({BALANCE: {"reserved": 3}}, {BALANCE: ("r5", "r6")})
    difference = Difference("acme", BALANCE, "reserved", 10, 3)

    told = explained(difference, under_way=holding, booked=[booked("r1", 7)])

    assert (told.because, told.requests) == ("holds there", ("r5", "r6"))


def test_no_more_than_a_page_of_ids_is_named() -> None:
    """An answer is bounded; how many there are is told."""
    told = explained(OF_BALANCE, booked=[booked(f"r{number}", 1) for number in range(50)])

    assert (len(told.requests), told.requests_total) == (20, 50)


def test_rows_that_differ_are_named_also_where_nobody_is() -> None:
    """With the amounts of both."""
    row = UsageRow.of(LINE.key_id, None, LINE.model, LINE.backend).encoded()
    log = cells_of([LINE, msgspec.structs.replace(LINE, finished_at_ms=0)], HOUR)
    ledger = log | {cell(row, "output_tokens"): 12}

    rows = rows_that_differ(ledger, log)
    told = explained(OF_USAGE, rows=rows)

    assert rows == (("key_1 / - / m / a / output_tokens", 12, 5),)
    assert (told.because, told.rows) == ("booked since equal", rows)


def test_what_an_outcome_booked_is_read_from_it_and_from_corrections() -> None:
    """By balance, and by the hour in which each attempt ended."""
    outcome = finished(
        [attempt(finished_at_ms=0), attempt(2, finished_at_ms=3_600_000, output_tokens=9)],
        [
            Booking(key=BALANCE, unit="tokens", amount=4),
            Booking(key=BALANCE, unit="tokens", amount=3),
        ],
    )
    wanted = {name: getattr(outcome, name) for name in ("request_id", "org", "key_id", "model")}
    adjusted = AttemptAdjusted(
        **wanted,
        route="chat.completions",
        revision=2,
        delta=attempt(output_tokens=-1, finished_at_ms=0),
        bookings=[Booking(key=BALANCE, unit="tokens", amount=-1)],
        deadline_ms=1,
        adjusted_at_ms=1,
        reason="late_finish",
        parents=[],
    )

    first, second = booked_by(outcome), booked_by(adjusted)

    assert first.amount(OF_BALANCE) == 7
    assert first.hours["1970-01-01T01"]["output_tokens"] == 9
    assert second.amount(OF_BALANCE) == -1
    assert "requests" not in second.hours["1970-01-01T00"]
