"""An outcome adds to a fold what it adds to the books, however it is read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accounting.booking import entry_of
from accounting.rebuild import hours, rows
from accounting.rebuild.hours import Line, lines_of
from accounting.rebuild.rows import known_in, row_of
from schemas.codec import MalformedRecord, encode
from schemas.events import AttemptAdjusted, Booking, RecordRef, RequestFinished
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
_AMOUNTS = st.integers(0, 70) | st.integers(-(2**62), 2**62)
_TEXTS = st.text(max_size=3) | st.sampled_from(("a" * 63, "a" * 64, "a" * 127, "a" * 128))
_ATTEMPTS = st.builds(
    lambda number, backend, at_ms, tokens, cost: msgspec.structs.replace(
        attempt(number, backend=backend, finished_at_ms=at_ms, cost_nano_usd=cost),
        input_tokens=tokens,
        cached_tokens=tokens // 2,
    ),
    st.integers(0, 3),
    _TEXTS,
    st.integers(0, 2**43),
    _AMOUNTS,
    st.none() | _AMOUNTS,
)
_EVENTS = st.builds(
    lambda attempts, bookings, **fields: msgspec.structs.replace(
        finished(attempts, bookings), **fields
    ),
    st.lists(_ATTEMPTS, max_size=3),
    st.lists(st.builds(Booking, key=_TEXTS, unit=_TEXTS, amount=_AMOUNTS), max_size=70)
    | st.lists(st.builds(Booking, key=_TEXTS, unit=_TEXTS, amount=_AMOUNTS), max_size=2),
    org=_TEXTS,
    user=st.none() | _TEXTS,
    error_message=st.none() | _TEXTS,
    deadline_ms=_AMOUNTS,
    idempotency_hash=st.none() | _TEXTS,
    job=st.none() | _TEXTS,
    parents=st.lists(st.just(ACCEPTED_AT), max_size=5),
)


@given(_EVENTS | st.just(_ADJUSTED))
@example(_ADJUSTED)
def test_a_record_says_what_its_entry_says(event: RequestFinished | AttemptAdjusted) -> None:
    """Bookings, hours, measures, reference and deadline, of outcomes and corrections."""
    entry, value = entry_of(event, _REF, NOW_MS), encode(event)
    row, is_kept = row_of(value, 99, NOW_MS)

    said = entry.row
    assert (row.org, row.req, row.ref, row.ran) == (entry.org, said.req, said.ref, said.ran)
    assert (row.offset, row.at_ms, row.deadline_ms) == (99, NOW_MS, said.deadline_ms)
    assert row.bookings == tuple((b.key, b.amount) for b in said.bookings)
    assert is_kept == any(getattr(event, name, None) for name in ("idempotency_hash", "job"))
    assert lines_of(value) == [
        Line(entry.org, u.hour, u.row, {cell(u.row, name): n for name, n in u.measures.items()})
        for u in said.usage
    ]


def test_plain_outcomes_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as dear as finding what counts: a shard would be closed for longer."""

    def decoded(*_: Any) -> Any:
        raise AssertionError

    value = encode(finished([attempt(1), attempt(2)], _BOOKINGS * 12))
    for module in (rows, hours):
        monkeypatch.setattr(module, "_decoded", decoded)
    assert row_of(value, 99, NOW_MS)[0].bookings
    assert len(lines_of(value)) == 2


@given(_EVENTS, st.data())
def test_damaged_records_are_read_as_the_decoder_reads_them(
    event: RequestFinished, data: st.DataObject
) -> None:
    """Or they would be folded where accounting dead-letters them."""
    whole = encode(event)
    at = data.draw(st.integers(5, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=2)) + whole[at + 1 :]
    assert _outcome(rows.row_of, damaged, 99, NOW_MS) == _outcome(
        rows._decoded, damaged, 99, NOW_MS
    )
    assert _outcome(lines_of, damaged) == _outcome(lambda it: list(hours._decoded(it)), damaged)


def _outcome(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except (MalformedRecord, OverflowError, OSError) as error:
        return type(error)


def test_who_an_outcome_is_of_stands_in_its_headers() -> None:
    """Where its deadline stands there as well; a correction is read."""
    more = {"request_id": REQUEST_ID.encode(), "deadline_ms": b"123"}
    known = known_in(dict(outcome_record(finished([], []), "dispatcher", more).headers))
    assert known == (REQUEST_ID, 123)
    assert known_in(dict(outcome_record(finished([], []), "dispatcher").headers)) is None
    assert known_in(dict(adjustment_record(_ADJUSTED, more).headers)) is None


def test_what_is_no_outcome_is_malformed() -> None:
    """Accounting dead-letters it."""
    for read in (lambda it: row_of(it, 1, NOW_MS), lines_of):
        with pytest.raises(MalformedRecord):
            read(encode(accepted()))
