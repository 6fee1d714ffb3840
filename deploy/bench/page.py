"""The report of a bench as one HTML page that needs nothing else: tables and pictures. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Final

from deploy.bench.figures import Result, Summary
from deploy.bench.picture import draw
from deploy.bench.report import render_table

_STYLE: Final = """\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.missed{color:#a40000}.met{color:#006b2d}
pre{background:#f6f6f6;padding:.6rem;overflow-x:auto;font-size:12px}
svg{display:block;margin:1rem 0}svg text{font:11px system-ui,sans-serif;fill:#333}svg text.t{font-weight:600;font-size:13px}
svg line{stroke:#ddd}svg rect,svg circle{fill:#2b6cb0}svg .l{fill:none;stroke:#2b6cb0;stroke-width:2}
"""


def page(facts: Mapping[str, str], summaries: Sequence[Summary], results: Sequence[Result]) -> str:
    """The page: what was measured where, all figures, then each run of each scenario."""
    body = "".join(
        [
            "<h1>Tallygate bench</h1>",
            "".join(_table(("", ""), facts.items())),
            "<h2>Figures</h2>",
            "".join(_figures(summaries)),
            *(
                part
                for number, result in enumerate(results, 1)
                for part in _section(number, result)
            ),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Tallygate bench</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _figures(summaries: Sequence[Summary]) -> Iterator[str]:
    yield "<table><tr><th>what</th><th>median</th><th>least to most</th><th>goal</th></tr>"
    for each in summaries:
        kind = {True: "met", False: "missed", None: ""}[each.is_met]
        spread = f"{each.least:.4g} to {each.most:.4g}" if each.runs > 1 else ""
        yield (
            f'<tr><td>{escape(each.about)}</td><td class="n {kind}">{each.median:.4g} {escape(each.unit)}</td>'
            f'<td class="n">{spread}</td><td>{escape(each.goal)} {kind}</td></tr>'
        )
    yield "</table>"


def _section(number: int, result: Result) -> Iterator[str]:
    yield f"<h2>{number}. {escape(result.scenario)}</h2>"
    if result.reports:
        yield f"<pre>{escape(render_table(result.reports))}</pre>"
    for note in result.notes:
        yield f"<p>{escape(note)}</p>"
    for chart in result.charts:
        yield draw(chart)
    if result.counts:
        names = list(dict.fromkeys(what for each in result.counts.values() for what in each))
        rows = [
            (name, *(_count(each, what) for what in names)) for name, each in result.counts.items()
        ]
        yield "<h3>per request</h3>"
        yield from _table(("process", *names), rows)


def _count(counts: Mapping[str, float], what: str) -> str:
    return f"{counts[what]:.2f}" if what in counts else "-"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield "<table><tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
    yield "</table>"
