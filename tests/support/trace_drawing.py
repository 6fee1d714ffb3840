"""Draws the spans of a trace as an SVG: a row for each, indented below its parent, a bar where its time was. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from tests.support.otlp_receiver import Seen

WIDTH: Final = 980
_ROW: Final = 22
_TOP: Final = 64
_LABELS: Final = 330
_RIGHT: Final = 90
_INDENT: Final = 14
_TICKS: Final = 5
_COLOURS: Final = {
    "ingress": "#4c78a8",
    "limiter_worker": "#f58518",
    "dispatcher": "#54a24b",
    "accounting": "#b279a2",
}
_ERROR: Final = "#e45756"
_STYLE: Final = "text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#24292f}.d{fill:#57606a}.t{font-weight:600}line{stroke:#d0d7de}"


def draw_trace(spans: Sequence[Seen], title: str) -> str:
    """The picture of a trace that has at least one span."""
    start_ns, end_ns = min(s.started_ns for s in spans), max(s.ended_ns for s in spans)
    whole_ms = max(0.001, (end_ns - start_ns) / 1e6)
    rows = list(_rows(spans))
    height = _TOP + _ROW * len(rows) + 16
    parts = [*_head(title, spans), *_scale(whole_ms, height)]
    for number, (span, depth) in enumerate(rows):
        parts += _row(span, depth, _TOP + _ROW * number, start_ns, whole_ms)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _rows(spans: Sequence[Seen]) -> Iterator[tuple[Seen, int]]:
    """Each span with its depth, parents before their children, those in the order of time."""
    known = {span.span_id for span in spans}
    below: dict[str, list[Seen]] = {}
    for span in sorted(spans, key=lambda one: one.started_ns):
        below.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)

    def walk(parent: str, depth: int) -> Iterator[tuple[Seen, int]]:
        for span in below.get(parent, ()):
            yield span, depth
            yield from walk(span.span_id, depth + 1)

    return walk("", 0)


def _head(title: str, spans: Sequence[Seen]) -> Iterator[str]:
    yield f'<text x="12" y="20" class="t">{escape(title)}</text>'
    yield f'<text x="12" y="40" class="d">trace {spans[0].trace_id}</text>'
    x = _LABELS + 12
    for process, colour in _COLOURS.items():
        yield f'<rect x="{x}" y="30" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{x + 15}" y="40" class="d">{process}</text>'
        x += 130


def _scale(whole_ms: float, height: int) -> Iterator[str]:
    for tick in range(_TICKS + 1):
        x = _at(whole_ms * tick / _TICKS, whole_ms)
        yield f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height - 10}"/>'
        yield f'<text x="{x + 3:.1f}" y="{_TOP - 8}" class="d">{whole_ms * tick / _TICKS:.0f} ms</text>'


def _row(span: Seen, depth: int, y: int, start_ns: int, whole_ms: float) -> Iterator[str]:
    begins_ms = (span.started_ns - start_ns) / 1e6
    took_ms = (span.ended_ns - span.started_ns) / 1e6
    x, until = _at(begins_ms, whole_ms), _at(begins_ms + took_ms, whole_ms)
    colour = _ERROR if span.is_error else _COLOURS.get(span.process, "#8c8c8c")
    name = span.name
    if (backend := span.attributes.get("tallygate.backend")) is not None:
        name += f" at {backend}"
    yield f'<text x="{12 + _INDENT * depth}" y="{y + 15}">{escape(name)}</text>'
    width = max(2.0, until - x)
    yield f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="14" rx="2" fill="{colour}"><title>{escape(span.process)}: {took_ms:.2f} ms</title></rect>'
    error = f", {span.attributes['error.type']}" if span.is_error else ""
    yield f'<text x="{x + width + 4:.1f}" y="{y + 15}" class="d">{took_ms:.1f} ms{escape(error)}</text>'


def _at(ms: float, whole_ms: float) -> float:
    return _LABELS + (WIDTH - _LABELS - _RIGHT) * ms / whole_ms
