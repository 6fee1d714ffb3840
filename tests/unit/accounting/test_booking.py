"""From outcomes to the books: one usage line per attempt, and measures that add up."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.booking import entry_of
from schemas.codec import encode
from schemas.events import Attempt, AttemptAdjusted, Booking, RecordRef
from schemas.ledger import documents
from schemas.usage import hour_of, measures_of
from tests.support.events import ACCEPTED_AT, NOW_MS, REQUEST_ID, attempt, finished

_REF = RecordRef(topic="inference.outcomes.v1", partition=3, offset=99)
_COUNT = st.integers(0, 10**6)


@st.composite
def _attempts(draw: st.DrawFn) -> list[Attempt]:
    """Attempts 1 and 2 as a dispatcher writes them."""
    return [
        attempt(
            number,
            backend=f"b{number}",
            input_tokens=draw(_COUNT),
            output_tokens=draw(_COUNT),
            cost_nano_usd=draw(st.none() | st.integers(0, 10**12)),
            finished_at_ms=NOW_MS + draw(st.integers(0, 10**7)),
        )
        for number in range(1, draw(st.integers(0, 2)) + 1)
    ]


def _bookings(attempts: list[Attempt]) -> list[Booking]:
    """What the dispatcher settles for them, per unit."""
    sums = {
        "requests": 1 if attempts else 0,
        "tokens": sum(a.input_tokens + a.output_tokens for a in attempts),
        "nano_usd": sum(a.cost_nano_usd or 0 for a in attempts),
    }
    return [Booking(key=f"b:org/{unit}:x", unit=unit, amount=sums[unit]) for unit in sums]


def _adjustment(delta: Attempt) -> AttemptAdjusted:
    return AttemptAdjusted(
        request_id=REQUEST_ID,
        org="acme",
        key_id="key_a",
        route="chat.completions",
        model="echo",
        revision=1,
        delta=delta,
        bookings=[Booking(key="b:org/tokens:x", unit="tokens", amount=-10)],
        reason="late_finish",
        adjusted_at_ms=NOW_MS,
        deadline_ms=NOW_MS,
        parents=[ACCEPTED_AT],
    )


@given(_attempts())
def test_the_measures_of_the_lines_add_up_to_the_bookings(attempts: list[Attempt]) -> None:
    """The two sums that ``ledger verify`` compares start equal."""
    row = entry_of(finished(attempts, _bookings(attempts)), _REF, NOW_MS).row
    total: dict[str, int] = {}
    for line in row.usage:
        for name, amount in line.measures.items():
            total[name] = total.get(name, 0) + amount

    assert {b.unit: b.amount for b in row.bookings} == {
        "requests": total.get("requests", 0),
        "tokens": total.get("input_tokens", 0) + total.get("output_tokens", 0),
        "nano_usd": total.get("cost_nano_usd", 0),
    }
    assert total.get("attempts", 0) == len(attempts)


@given(_attempts())
def test_every_attempt_has_exactly_one_line_with_an_id_of_its_own(attempts: list[Attempt]) -> None:
    """And a second reading of the record makes the same bytes."""
    event = finished(attempts, [])
    lines = entry_of(event, _REF, NOW_MS).lines

    assert [line.usage_id for line in lines] == [f"{REQUEST_ID}:{a.attempt}:0" for a in attempts]
    assert [encode(line) for line in lines] == [
        encode(line) for line in entry_of(event, _REF, NOW_MS).lines
    ]


def test_a_line_says_who_what_and_where_from() -> None:
    """Without another look at the outcome, whose place it names."""
    (line,) = entry_of(finished([attempt()], []), _REF, NOW_MS).lines

    assert (line.org, line.project, line.key_id, line.user) == ("acme", "search", "key_a", "ada")
    assert (line.model, line.backend, line.status) == ("echo", "b1", "succeeded")
    assert (line.input_tokens, line.output_tokens, line.cost_nano_usd) == (12, 34, 228_000)
    assert line.outcome == _REF


def test_a_row_is_named_by_key_user_model_and_backend() -> None:
    """In the hour in which the attempt ended; a dash stands for no user."""
    (usage,) = entry_of(finished([attempt()], [], user=None), _REF, NOW_MS).row.usage

    assert (usage.row, usage.hour) == ("key_a\t-\techo\tb1", "2023-11-14T22")


def test_an_outcome_is_booked_at_its_offset() -> None:
    """Which is what guards against booking it twice."""
    entry = entry_of(finished([], [Booking(key="b:x", unit="tokens", amount=3)]), _REF, NOW_MS)

    assert (entry.org, entry.row.offset, entry.row.req, entry.row.ref) == (
        "acme",
        99,
        REQUEST_ID,
        None,
    )
    assert entry.row.bookings == (documents.Booking(key="b:x", unit="tokens", amount=3),)


def test_a_correction_is_a_line_of_its_own_revision() -> None:
    """It adds no request and no attempt, and its amounts are signed."""
    delta = attempt(1, input_tokens=0, output_tokens=-10, cost_nano_usd=-60_000)
    entry = entry_of(_adjustment(delta), _REF, NOW_MS)

    assert entry.row.ref == "1:1"
    assert [line.usage_id for line in entry.lines] == [f"{REQUEST_ID}:1:1"]
    assert entry.row.usage[0].measures == {"output_tokens": -10, "cost_nano_usd": -60_000}


@pytest.mark.parametrize(
    ("line", "revision", "counted"),
    [
        (attempt(1, cost_nano_usd=0), 0, {"requests": 1, "attempts": 1}),
        (attempt(2, cost_nano_usd=0), 0, {"attempts": 1}),
        (attempt(1, cost_nano_usd=None), 0, {"requests": 1, "attempts": 1, "unpriced": 1}),
        (attempt(1, cost_nano_usd=None), 1, {}),
    ],
    ids=["first attempt", "second attempt", "without a price", "correction without a price"],
)
def test_what_counts_once_counts_with_the_first_line(
    line: Attempt, revision: int, counted: dict[str, int]
) -> None:
    """A request with its first attempt, an attempt with its original line."""
    tokens = {"input_tokens": 12, "output_tokens": 34}

    assert measures_of(line, revision) == tokens | counted


@pytest.mark.parametrize(
    ("at_ms", "hour"),
    [(1_700_002_799_999, "2023-11-14T22"), (1_700_002_800_000, "2023-11-14T23")],
    ids=["last millisecond", "first millisecond"],
)
def test_an_hour_is_an_hour_in_utc(at_ms: int, hour: str) -> None:
    """As table keys name it."""
    assert hour_of(at_ms) == hour


@pytest.mark.parametrize("fence", [0, 7])
def test_only_the_end_of_a_job_comes_with_its_outcome(fence: int) -> None:
    """Lists show it; the ledger that was told by a finish may have lost it since."""
    refused = msgspec.structs.replace(
        finished([], []),
        fence=fence,
        status="refused",
        http_status=402,
        error_code="BUDGET_EXCEEDED",
        error_message="spent",
    )
    job = msgspec.structs.replace(refused, job="facts")

    assert entry_of(job, _REF, NOW_MS).row.ends == '[402,null,null,"BUDGET_EXCEEDED","spent"]'
    assert entry_of(refused, _REF, NOW_MS).row.ends is None
    assert entry_of(_adjustment(attempt(1)), _REF, NOW_MS).row.ends is None
