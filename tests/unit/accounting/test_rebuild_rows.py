"""An outcome adds to a fold what it adds to the books."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.booking import entry_of
from accounting.rebuild.rows import known_in, row_of
from schemas.codec import MalformedRecord, encode
from schemas.events import AttemptAdjusted, Booking, RecordRef
from schemas.outgoing import adjustment_record, outcome_record
from schemas.usage import cell
from tests.support.events import ACCEPTED_AT, NOW_MS, REQUEST_ID, accepted, attempt, finished

_REF = RecordRef(topic="inference.outcomes.v1", partition=3, offset=99)
_BOOKINGS = [Booking(key="b:org/tokens:x", unit="tokens", amount=-10)]
_ADJUSTED = AttemptAdjusted(
    request_id=REQUEST_ID,
    org="acme",
    key_id="key_a",
    route="chat.completions",
    model="echo",
    revision=1,
    delta=attempt(2, input_tokens=-3, cost_nano_usd=-7),
    bookings=_BOOKINGS,
    reason="late_finish",
    adjusted_at_ms=NOW_MS,
    deadline_ms=NOW_MS,
    parents=[ACCEPTED_AT],
)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 9)), max_size=2),
    st.booleans(),
)
def test_a_row_says_what_its_entry_says(
    attempts: list[tuple[int, int | None]], is_adjusted: bool
) -> None:
    """Bookings, hours, measures, reference and deadline, of outcomes and corrections."""
    made = [
        attempt(n + 1, input_tokens=tokens, cost_nano_usd=cost)
        for n, (tokens, cost) in enumerate(attempts)
    ]
    event = _ADJUSTED if is_adjusted else finished(made, _BOOKINGS)
    entry = entry_of(event, _REF, NOW_MS)
    row, _ = row_of(encode(event), 99, NOW_MS)

    said = entry.row
    assert (row.org, row.req, row.ref, row.ran) == (entry.org, said.req, said.ref, said.ran)
    assert (row.offset, row.at_ms, row.deadline_ms) == (99, NOW_MS, said.deadline_ms)
    assert row.bookings == tuple((b.key, b.amount) for b in said.bookings)
    assert row.usage == tuple(
        (u.hour, u.row, {cell(u.row, name): amount for name, amount in u.measures.items()})
        for u in said.usage
    )


def test_who_an_outcome_is_of_stands_in_its_headers() -> None:
    """Where its deadline stands there as well; a correction is read."""
    more = {"request_id": REQUEST_ID.encode(), "deadline_ms": b"123"}
    known = known_in(dict(outcome_record(finished([], []), "dispatcher", more).headers))
    assert known == (REQUEST_ID, 123)
    assert known_in(dict(outcome_record(finished([], []), "dispatcher").headers)) is None
    assert known_in(dict(adjustment_record(_ADJUSTED, more).headers)) is None


def test_what_is_no_outcome_is_malformed() -> None:
    """Accounting dead-letters it."""
    with pytest.raises(MalformedRecord):
        row_of(encode(accepted()), 1, NOW_MS)
