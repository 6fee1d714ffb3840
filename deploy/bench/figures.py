"""What a scenario found: figures with their goals, runs, charts and notes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from deploy.bench.goals import GOALS
from deploy.bench.report import Report


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. With a goal of its name it is judged."""

    name: str
    value: float
    about: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture: points by their position, or bars by their label."""

    title: str
    x: str
    y: str
    points: Sequence[tuple[float | str, float]]
    kind: Literal["line", "bars"] = "line"


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one scenario."""

    scenario: str
    figures: Sequence[Figure]
    reports: Sequence[Report] = ()
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()
    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    """What each process did for one request, by count."""
    has_failed: bool = False
    """Whether what the scenario asks for was not given, other than by a missed goal."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over all runs: its median and spread, and what it should be."""

    name: str
    about: str
    unit: str
    median: float
    least: float
    most: float
    runs: int
    goal: str
    is_met: bool | None
    """``None`` where there is no goal."""


def summed_up(results: Iterable[Result]) -> list[Summary]:
    """Each figure once, over the runs in which it was measured."""
    found: dict[str, list[Figure]] = {}
    for result in results:
        for figure in result.figures:
            found.setdefault(figure.name, []).append(figure)
    return [_summary(name, figures) for name, figures in found.items()]


def _summary(name: str, figures: Sequence[Figure]) -> Summary:
    values, goal = [figure.value for figure in figures], GOALS.get(name)
    middle = median(values)
    return Summary(
        name,
        figures[0].about or (goal.about if goal else ""),
        figures[0].unit or (goal.unit if goal else ""),
        middle,
        min(values),
        max(values),
        len(values),
        goal.bound if goal else "",
        goal.is_met(middle) if goal else None,
    )


def percentile_chart(title: str, seconds: Iterable[float]) -> Chart:
    """The latency that so many percent of all requests stayed below."""
    ordered = sorted(seconds)
    shares = [*range(0, 100, 5), 99, 99.5, 99.9, 100]
    points = [
        (float(share), ordered[min(len(ordered) - 1, int(share / 100 * len(ordered)))] * 1_000)
        for share in shares
        if ordered
    ]
    return Chart(title, "% of the requests", "ms", points)
