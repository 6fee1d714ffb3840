"""Each kind of difference between outcomes, usage lines and ledger is named by its ids."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from starlette.datastructures import QueryParams

from accounting.booking import entry_of
from ingress.admin.finance.reconcile import Reading, Span, Standing, judge, summary
from ingress.admin.finance.reconcile_routes import parse_span
from ingress.admin.finance.reconciliation import take_in
from ingress.admin.http.refusal import Refusal
from schemas.codec import encode
from schemas.events import AttemptAdjusted, Booking, RecordRef, RequestFinished, UsageRecorded
from tests.support.events import ACCEPTED_AT, NOW_MS, REQUEST_ID, attempt, finished

USAGE_ID = f"{REQUEST_ID}:1:0"
SPAN = Span(NOW_MS, NOW_MS + 60_000, NOW_MS - 1_000)
PLACE = RecordRef(topic="inference.outcomes.v1", partition=3, offset=7)
OUTCOME = finished([attempt()], [Booking(key="b:org/tokens:x", unit="tokens", amount=46)])
LINE = entry_of(OUTCOME, PLACE, NOW_MS).lines[0]
PROCESSED = {3: 8}
DONE = {REQUEST_ID: Standing("FINISHED", "3:7")}


def _stored(event: Any, offset: int = 7, at_ms: int = NOW_MS + 5) -> Any:
    return SimpleNamespace(
        topic=PLACE.topic, partition=3, offset=offset, timestamp=at_ms, value=encode(event)
    )


def reading(
    *events: RequestFinished | AttemptAdjusted | UsageRecorded, span: Span = SPAN
) -> Reading:
    taken = Reading(span)
    for event in events:
        take_in(taken, cast("Any", _stored(event)))
    return taken


def found(
    taken: Reading, processed: Any = None, known: dict[str, Standing] | None = None
) -> list[tuple[str, str | None, str]]:
    findings, _ = judge(taken, processed or PROCESSED, DONE if known is None else known)
    return [(f.kind, f.request_id, f.what) for f in findings]


def test_what_fits_is_not_named() -> None:
    """One outcome, one line, settled and booked."""
    assert found(reading(OUTCOME, LINE)) == []


def test_an_outcome_without_its_line_is_named() -> None:
    """By the id that the line should have."""
    assert found(reading(OUTCOME)) == [("outcome_without_usage_line", REQUEST_ID, USAGE_ID)]


def test_an_outcome_that_is_not_booked_yet_only_waits() -> None:
    """Accounting may be behind."""
    findings, waiting = judge(reading(OUTCOME), {3: 7}, DONE)

    assert (findings, waiting) == ([], 1)


def test_a_line_without_its_outcome_is_named() -> None:
    """Nobody asked for that money."""
    assert found(reading(LINE)) == [("usage_line_without_outcome", REQUEST_ID, USAGE_ID)]


def test_a_line_that_stands_twice_is_named_and_is_no_difference() -> None:
    """Delivery is at least once, by id."""
    assert found(reading(OUTCOME, LINE, LINE)) == [("usage_line_doubled", REQUEST_ID, USAGE_ID)]


@pytest.mark.parametrize(
    "second",
    [
        msgspec.structs.replace(LINE, output_tokens=35),
        msgspec.structs.replace(LINE, outcome=msgspec.structs.replace(PLACE, offset=9)),
    ],
    ids=["other amounts", "of a copy of the outcome"],
)
def test_a_line_that_differs_from_another_of_its_id_is_named(second: UsageRecorded) -> None:
    """Whoever deduplicates by id takes one of them."""
    assert found(reading(OUTCOME, LINE, second)) == [("usage_line_differs", REQUEST_ID, USAGE_ID)]


def test_a_line_that_differs_from_its_outcome_is_named() -> None:
    """The outcome is the record."""
    wrong = msgspec.structs.replace(LINE, cost_nano_usd=1)
    assert found(reading(OUTCOME, wrong)) == [("usage_line_differs", REQUEST_ID, USAGE_ID)]


def test_an_outcome_whose_hold_is_still_open_is_named() -> None:
    """Booked, not settled."""
    known = {REQUEST_ID: Standing("RUNNING", "3:7")}

    assert found(reading(OUTCOME, LINE), known=known) == [
        ("booked_not_settled", REQUEST_ID, REQUEST_ID)
    ]


def test_a_correction_has_a_line_of_its_own() -> None:
    """It is held against its own amounts."""
    change = AttemptAdjusted(
        request_id=REQUEST_ID,
        org="acme",
        key_id="key_a",
        route="chat.completions",
        model="echo",
        revision=1,
        delta=attempt(output_tokens=-4),
        bookings=[],
        reason="late",
        adjusted_at_ms=NOW_MS,
        deadline_ms=NOW_MS,
        parents=[ACCEPTED_AT],
    )
    line = entry_of(change, PLACE, NOW_MS).lines[0]

    assert found(reading(OUTCOME, LINE, change, line)) == []
    assert found(reading(OUTCOME, LINE, change)) == [
        ("outcome_without_usage_line", REQUEST_ID, f"{REQUEST_ID}:1:1")
    ]


def test_of_a_request_older_than_the_reading_only_the_booked_outcome_misses_its_line() -> None:
    """A copy of one that stands before has its line before, too."""
    later = Span(NOW_MS, NOW_MS + 60_000, NOW_MS + 1)
    copy = {REQUEST_ID: Standing("BOOKED", "3:2")}

    assert found(reading(OUTCOME, span=later), known=copy) == []
    assert found(reading(LINE, span=later)) == []
    assert [kind for kind, _, _ in found(reading(OUTCOME, span=later))] == [
        "outcome_without_usage_line"
    ]


def test_of_what_was_not_read_to_its_end_nothing_is_missing() -> None:
    """It may stand behind."""
    taken = reading(OUTCOME)
    taken.is_complete = False

    assert found(taken) == []


def test_what_was_appended_outside_the_span_is_not_judged() -> None:
    """It is only read for what is inside."""
    span = Span(NOW_MS + 6, NOW_MS + 60_000, NOW_MS - 1_000)

    assert found(reading(OUTCOME, span=span)) == []


def test_kinds_are_counted() -> None:
    """For whoever looks at the whole."""
    findings, _ = judge(reading(OUTCOME, LINE, LINE), PROCESSED, DONE)

    assert summary(findings) == {"usage_line_doubled": 1}


def test_the_span_is_the_last_hour_unless_told() -> None:
    """Reading begins a quarter of an hour earlier."""
    span = parse_span(QueryParams({}), NOW_MS)

    assert isinstance(span, Span)
    assert (span.start, span.read_from) == (NOW_MS - 3_600_000, NOW_MS - 4_500_000)
    assert NOW_MS in span


@pytest.mark.parametrize(
    "query",
    [
        {"from": "x"},
        {"to": "x"},
        {"since": "2026-01-01"},
        {"from": "2026-01-02", "to": "2026-01-01"},
    ],
)
def test_an_odd_span_is_refused(query: dict[str, str]) -> None:
    """With what is wrong."""
    assert isinstance(parse_span(QueryParams(query), NOW_MS), Refusal)
