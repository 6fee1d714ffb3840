"""What stands on a dashboard, as values: panels with their queries. Pure.

``$__rate_interval`` and ``$__range`` are Grafana's: the window that fits the scrape interval and the zoom, and the whole
range that is shown. A query that may find nothing on a healthy gateway says ``or on () vector(0)``, so that an empty panel always
means that something is not scraped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal[
    "short", "reqps", "s", "percentunit", "currencyUSD", "bytes", "Bps", "dateTimeFromNow"
]
Shape: TypeAlias = Literal["lines", "stacked", "number", "states"]


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and how its lines are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture that answers one question."""

    title: str
    meaning: str
    """What is good, what is not, and what to look at then."""
    queries: tuple[Query, ...]
    unit: Unit = "short"
    shape: Shape = "lines"
    bad_from: float | None = None
    """From where on it is red."""
    bad_below: float | None = None
    """Below which it is red."""
    width: int = 8
    """Of 24."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    meaning: str
    rows: tuple[Row, ...]


def quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    """The quantile of a histogram over the zoom, by labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def rate(metric: str, by: str = "", where: str = "") -> str:
    """How often a second, by labels."""
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}{{{where}}}[$__rate_interval]))"


def risen(metric: str, by: str) -> str:
    """How often in the range that is shown, by labels; zero where nothing was counted."""
    return or_none(f"sum by ({by}) (increase({metric}[$__range]))")


def or_none(expr: str) -> str:
    """Zero where there is nothing to count, and only there."""
    return f"{expr} or on () vector(0)"
