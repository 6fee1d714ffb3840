"""Rows of usage tables: what is written is what is read, and what a line counts as."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.usage import COUNTED, MEASURES, UsageRow, cell, hour_of, measures_of, read_cell
from tests.support.events import attempt

_NAMES = st.text(st.characters(exclude_characters="\t", exclude_categories=["Cs"]), min_size=1)


@given(_NAMES, _NAMES, _NAMES, _NAMES, st.sampled_from(MEASURES))
def test_a_cell_is_read_as_it_was_written(
    key: str, user: str, model: str, backend: str, measure: str
) -> None:
    """Whatever the names are; none has a tab in it."""
    row = UsageRow.of(key, user, model, backend)

    assert read_cell(cell(row.encoded(), measure)) == ((key, user, model, backend), measure)


def test_the_row_in_the_ledger_is_text_with_tabs() -> None:
    """The bytes that stand in stores and topics; requests without a user share a row."""
    assert UsageRow.of("key_a", None, "echo", "b1").encoded() == "key_a\t-\techo\tb1"
    assert cell("key_a\t-\techo\tb1", "requests") == "key_a\t-\techo\tb1\trequests"


@pytest.mark.parametrize("field", ["", "requests", "k\tu\tm\tb", "k\tu\tm\tb\tx\ty"])
def test_what_is_no_cell_is_not_guessed_at(field: str) -> None:
    """Too few names or too many."""
    with pytest.raises(ValueError, match="values to unpack"):
        read_cell(field)


def test_a_line_counts_each_measure_by_its_name() -> None:
    """And no zeros, which would only fill the tables."""
    line = attempt(input_tokens=1, output_tokens=2, cost_nano_usd=5)
    line = msgspec.structs.replace(line, cached_tokens=3, reasoning_tokens=4)

    assert measures_of(line, 0) == {
        "requests": 1,
        "attempts": 1,
        "input_tokens": 1,
        "output_tokens": 2,
        "cached_tokens": 3,
        "reasoning_tokens": 4,
        "cost_nano_usd": 5,
    }


def test_every_kind_of_token_and_call_is_a_measure() -> None:
    """Of an attempt and of its line alike."""
    counts = {name: number for number, name in enumerate(COUNTED, start=1)}

    assert {name: measures_of(attempt(**counts), 0)[name] for name in COUNTED} == counts
    assert set(COUNTED) < set(MEASURES)


def test_a_second_attempt_is_no_second_request_and_a_correction_is_neither() -> None:
    """Whatever is added to an attempt later, its request is counted once."""
    second, unpriced = attempt(2), msgspec.structs.replace(attempt(), cost_nano_usd=None)

    assert "requests" not in measures_of(second, 0)
    assert measures_of(second, 0)["attempts"] == 1
    assert measures_of(attempt(), 1).keys().isdisjoint({"requests", "attempts", "unpriced"})
    assert measures_of(unpriced, 0)["unpriced"] == 1
    assert "unpriced" not in measures_of(unpriced, 1)


def test_an_hour_is_one_of_utc() -> None:
    """Its name is part of keys."""
    assert hour_of(1_700_002_799_999) == "2023-11-14T22"
    assert hour_of(1_700_002_800_000) == "2023-11-14T23"
