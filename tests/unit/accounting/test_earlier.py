"""The log says whether a record is the first of its request."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from accounting.earlier import copies_among, first_among
from schemas.codec import encode
from schemas.events import AttemptAdjusted, RequestFinished
from schemas.ids import made_at_ms
from schemas.ledger.documents import OutcomeRow
from tests.support.events import ACCEPTED_AT, NOW_MS, REQUEST_ID, attempt, finished


@dataclass
class Stored:
    """A record as a consumer hands it out."""

    offset: int
    value: bytes
    request_id: bytes | None = REQUEST_ID.encode()
    partition: int = 3
    timestamp: int = NOW_MS

    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return (("request_id", self.request_id),) if self.request_id else ()


def _row(offset: int, ref: str | None = None) -> OutcomeRow:
    return OutcomeRow(offset=offset, at_ms=NOW_MS, req=REQUEST_ID, deadline_ms=NOW_MS, ref=ref)


def _correction(revision: int) -> AttemptAdjusted:
    return AttemptAdjusted(
        request_id=REQUEST_ID,
        org="acme",
        key_id="key_a",
        route="chat.completions",
        model="echo",
        revision=revision,
        delta=attempt(),
        bookings=[],
        reason="late",
        adjusted_at_ms=NOW_MS,
        deadline_ms=NOW_MS,
        parents=[ACCEPTED_AT],
    )


def _stored(offset: int, event: RequestFinished | AttemptAdjusted) -> Stored:
    return Stored(offset, encode(event))


@pytest.mark.parametrize(
    ("record", "copies"),
    [
        (_stored(5, finished([], [])), {9}),
        (Stored(5, encode(finished([], [])), request_id=None), {9}),
        (_stored(9, finished([], [])), set()),
        (_stored(10, finished([], [])), set()),
        (_stored(5, _correction(1)), set()),
        (Stored(5, b"\x00not avro"), set()),
        (Stored(5, encode(finished([], [])), request_id=b"another"), set()),
    ],
    ids=[
        "earlier",
        "without headers",
        "itself",
        "later",
        "another reference",
        "undecodable",
        "another request",
    ],
)
def test_an_earlier_record_of_the_same_request_makes_a_row_a_copy(
    record: Stored, copies: set[int]
) -> None:
    """By request and reference, as the ledger's marks do."""
    assert copies_among([_row(9)], [record]) == copies


def test_of_two_rows_that_are_asked_for_together_the_second_is_a_copy() -> None:
    """The first of them is read as well."""
    rows = [_row(5), _row(9), _row(7, ref="1:1")]
    assert copies_among(rows, [_stored(5, finished([], []))]) == {9}
    assert copies_among(rows, [_stored(6, _correction(1))]) == {7}


def test_an_id_that_says_no_time_is_looked_for_from_the_beginning() -> None:
    """Whoever made it."""
    assert made_at_ms("no id of ours") == 0


def test_the_first_outcome_of_a_request_is_found_before_a_later_one() -> None:
    """Not a correction of it, not another's, not itself; and nothing where the log keeps it no more."""
    first = finished([attempt()], [])
    log = [
        _stored(1, _correction(1)),
        Stored(2, encode(finished([], [], request_id="another"))),
        _stored(3, first),
        _stored(5, finished([], [])),
    ]
    found = first_among(_row(9), log)

    assert found is not None
    assert (found.outcome, found.place.offset) == (first, 3)
    assert first_among(_row(3), log) is None
