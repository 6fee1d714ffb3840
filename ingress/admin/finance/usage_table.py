"""Adds up usage tables: pure. Amounts are integers, tokens or nano-USD; hours are UTC.

A row's cost is null when none of its attempts had a price; ``unpriced`` counts those that had none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.money import usd
from schemas.usage import MEASURES, read_cell

DIMENSIONS: Final = ("org", "key", "user", "model", "backend", "hour")


@dataclass(frozen=True, slots=True)
class Cell:
    """One amount of one usage table."""

    org: str
    hour: str
    key: str
    user: str
    model: str
    backend: str
    measure: str
    amount: int


def cells_of(org: str, hour: str, table: Mapping[str, int]) -> list[Cell]:
    """The cells of one table. Raises ``ValueError`` on a field of another shape."""
    cells = []
    for field, amount in table.items():
        try:
            row, measure = read_cell(field)
        except ValueError as error:
            raise ValueError(f"usage table {org} {hour} has a field {field!r}") from error
        cells.append(Cell(org, hour, *row, measure, amount))
    return cells


class Rows:
    """One row per combination of these ``DIMENSIONS``, in their order, with all measures.

    Only the rows are kept, however many cells are added.
    """

    def __init__(self, by: Sequence[str]) -> None:
        self._by = by
        self._sums: dict[tuple[str, ...], dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(MEASURES, 0)
        )

    def add(self, cells: Iterable[Cell]) -> None:
        """Add the cells to their rows."""
        for cell in cells:
            row = self._sums[tuple(getattr(cell, dimension) for dimension in self._by)]
            row[cell.measure] = row.get(cell.measure, 0) + cell.amount

    def listed(self) -> list[dict[str, Any]]:
        """The rows, in the order of their dimensions."""
        return [
            {**dict(zip(self._by, group, strict=True)), **_with_cost(row)}
            for group, row in sorted(self._sums.items())
        ]


def _with_cost(row: dict[str, int]) -> dict[str, Any]:
    is_unpriced = row["attempts"] > 0 and row["unpriced"] >= row["attempts"]
    cost = None if is_unpriced and row["cost_nano_usd"] == 0 else row["cost_nano_usd"]
    return row | {"cost_nano_usd": cost, "cost_usd": None if cost is None else usd(cost)}
