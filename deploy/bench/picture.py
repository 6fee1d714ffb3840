"""Charts as SVG, drawn without a library. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from deploy.bench.figures import Chart

WIDTH: Final = 640
HEIGHT: Final = 260
_LEFT: Final = 64
_RIGHT: Final = 16
_TOP: Final = 30
_BOTTOM: Final = 44
_TICKS: Final = 4
_LABEL_CHARS: Final = 14


def draw(chart: Chart) -> str:
    """The chart as one SVG element."""
    body = "".join(_bars(chart) if chart.kind == "bars" else _line(chart))
    title = (
        f'<text x="{WIDTH / 2}" y="16" text-anchor="middle" class="t">{escape(chart.title)}</text>'
    )
    axis = f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(chart.x)}</text>'
    unit = f'<text x="4" y="{_TOP - 8}">{escape(chart.y)}</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">'
        f"{title}{unit}{axis}{body}</svg>"
    )


def _line(chart: Chart) -> Iterator[str]:
    points = [(float(x), y) for x, y in chart.points]
    if not points:
        return
    least, most = min(x for x, _ in points), max(x for x, _ in points)
    top = _ceiling([y for _, y in points])
    yield from _grid(top)
    at = [(_across(x, least, most), _up(y, top)) for x, y in points]
    yield f'<polyline class="l" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>'
    for (x, y), (value, _) in zip(at, points, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{value:g}</title></circle>'
    for x in (least, (least + most) / 2, most):
        where = _across(x, least, most)
        yield f'<text x="{where:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x:.4g}</text>'


def _bars(chart: Chart) -> Iterator[str]:
    if not chart.points:
        return
    top = _ceiling([y for _, y in chart.points])
    yield from _grid(top)
    step = (WIDTH - _LEFT - _RIGHT) / len(chart.points)
    for number, (label, value) in enumerate(chart.points):
        x, y = _LEFT + number * step, _up(value, top)
        middle = x + step / 2
        yield (
            f'<rect x="{x + step * 0.15:.1f}" y="{y:.1f}" width="{step * 0.7:.1f}"'
            f' height="{HEIGHT - _BOTTOM - y:.1f}"/>'
            f'<text x="{middle:.1f}" y="{y - 3:.1f}" text-anchor="middle">{value:.3g}</text>'
        )
        shown = escape(str(label)[:_LABEL_CHARS])
        below = HEIGHT - _BOTTOM + (14 if number % 2 == 0 else 26)
        yield f'<text x="{middle:.1f}" y="{below}" text-anchor="middle">{shown}</text>'


def _grid(top: float) -> Iterator[str]:
    for number in range(_TICKS + 1):
        value = top * number / _TICKS
        y = _up(value, top)
        yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'


def _ceiling(values: Sequence[float]) -> float:
    """A little above the largest, and never 0."""
    return max(*values, 0.0, 1e-9) * 1.1 if values else 1.0


def _across(x: float, least: float, most: float) -> float:
    return _LEFT + (x - least) / ((most - least) or 1.0) * (WIDTH - _LEFT - _RIGHT)


def _up(y: float, top: float) -> float:
    return HEIGHT - _BOTTOM - max(0.0, y) / top * (HEIGHT - _BOTTOM - _TOP)
