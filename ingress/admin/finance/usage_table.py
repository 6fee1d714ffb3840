"""Adds up usage tables: pure. Amounts are integers, tokens or nano-USD; hours are UTC.

A row's cost is null when none of its attempts had a price; ``unpriced`` counts those that had none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.money import usd

DIMENSIONS: Final = ("org", "key", "user", "model", "backend", "hour")
MEASURES: Final = (
    "requests",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "unpriced",
)
_FIELD_PARTS: Final = 5


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
    r"""The cells of one table, whose fields are ``key\tuser\tmodel\tbackend\tmeasure``.

    Raises ``ValueError`` on a field of another shape.
    """
    cells = []
    for field, amount in table.items():
        parts = field.split("\t")
        if len(parts) != _FIELD_PARTS:
            raise ValueError(f"usage table {org} {hour} has a field {field!r}")
        key, user, model, backend, measure = parts
        cells.append(Cell(org, hour, key, user, model, backend, measure, amount))
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


def aggregate(cells: Iterable[Cell], by: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these cells."""
    rows = Rows(by)
    rows.add(cells)
    return rows.listed()


def hours_between(start: datetime, end: datetime) -> list[str]:
    """The names of the UTC hours that overlap [start, end), such as ``2026-11-21T12``."""
    hour = start.replace(minute=0, second=0, microsecond=0)
    hours = []
    while hour < end:
        hours.append(hour.strftime("%Y-%m-%dT%H"))
        hour += timedelta(hours=1)
    return hours


def _with_cost(row: dict[str, int]) -> dict[str, Any]:
    is_unpriced = row["attempts"] > 0 and row["unpriced"] >= row["attempts"]
    cost = None if is_unpriced and row["cost_nano_usd"] == 0 else row["cost_nano_usd"]
    return row | {"cost_nano_usd": cost, "cost_usd": None if cost is None else usd(cost)}
