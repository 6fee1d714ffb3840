"""Adding up usage tables, and reading the query for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.datastructures import QueryParams

from ingress.admin.finance.usage_routes import parse_query
from ingress.admin.finance.usage_table import Cell, Rows, cells_of
from ingress.admin.http.refusal import Refusal
from schemas.usage import hours_between

NOON_MS = int(datetime(2026, 11, 21, 12, 30, tzinfo=UTC).timestamp() * 1_000)
ROW = "key_1\tann\tm\ta\t"
CELLS = [
    *cells_of(
        "acme",
        "2026-11-21T11",
        {f"{ROW}requests": 2, f"{ROW}attempts": 2, f"{ROW}cost_nano_usd": 1_500_000_000},
    ),
    *cells_of(
        "acme", "2026-11-21T12", {f"{ROW}requests": 1, f"{ROW}attempts": 1, f"{ROW}unpriced": 1}
    ),
]


def aggregate(cells: Iterable[Cell], by: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these cells."""
    rows = Rows(by)
    rows.add(cells)
    return rows.listed()


def test_rows_are_sums_over_what_is_not_asked_for() -> None:
    """Grouped by organization and key, hours add up."""
    (row,) = aggregate(CELLS, ("org", "key"))

    assert (row["org"], row["key"], row["requests"]) == ("acme", "key_1", 3)
    assert (row["cost_nano_usd"], row["cost_usd"]) == (1_500_000_000, "1.500000000")
    assert row["unpriced"] == 1


def test_a_row_without_any_price_has_no_cost() -> None:
    """Unknown is null and never 0."""
    row = aggregate(CELLS, ("hour",))[1]

    assert row["hour"] == "2026-11-21T12"
    assert (row["cost_nano_usd"], row["cost_usd"], row["unpriced"]) == (None, None, 1)


def test_no_dimension_gives_one_total() -> None:
    """The sum over everything."""
    (total,) = aggregate(CELLS, ())

    assert total["attempts"] == 3


def test_a_correction_below_zero_keeps_its_sign() -> None:
    """An hour may hold more corrections than usage."""
    (row,) = aggregate(cells_of("a", "h", {f"{ROW}cost_nano_usd": -5, f"{ROW}attempts": 1}), ())

    assert row["cost_usd"] == "-0.000000005"


def test_a_field_of_another_shape_is_an_error() -> None:
    """A table we cannot read is never skipped in silence."""
    with pytest.raises(ValueError, match="acme"):
        cells_of("acme", "2026-11-21T11", {"requests": 1})


def test_hours_cover_the_span() -> None:
    """The end is exclusive; a started hour counts."""
    start, end = datetime(2026, 11, 20, 23, 5, tzinfo=UTC), datetime(2026, 11, 21, 1, tzinfo=UTC)

    assert hours_between(start, end) == ["2026-11-20T23", "2026-11-21T00"]


def test_the_default_is_the_last_day() -> None:
    """Whole hours around the last 24."""
    query = parse_query(QueryParams(""), NOON_MS)

    assert not isinstance(query, Refusal)
    assert query.start == datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert query.end == datetime(2026, 11, 21, 13, tzinfo=UTC)
    assert query.by == ("org", "key", "model")


@pytest.mark.parametrize(
    "text",
    ["by=org,planet", "by=org,org", "from=yesterday", "to=2026-11-01&from=2026-11-02", "form=1",
     "from=2026-01-01&to=2026-11-01"],
)  # fmt: skip
def test_a_query_that_says_something_else_is_refused(text: str) -> None:
    """A typo is not answered with the default."""
    assert isinstance(parse_query(QueryParams(text), NOON_MS), Refusal)
