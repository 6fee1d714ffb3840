"""The page with pictures: whole by itself, and safe from names that are foreign."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from deploy.bench.connection import OK
from deploy.bench.figures import Chart, Figure, Result, summed_up
from deploy.bench.page import page
from deploy.bench.picture import HEIGHT, WIDTH, draw
from deploy.bench.report import Sample, make_report

_BARS = Chart("CPU <b>", "process", "ms", [("ingress-0", 0.3), ("a&b", 0.0)], "bars")
_LINE = Chart("p99", "rate", "ms", [(100.0, 5.0), (140.0, 5.5), (196.0, 700.0)])


def test_pictures_are_well_formed_and_stay_within_their_frame() -> None:
    """Text that came from elsewhere is text in them."""
    for chart in (_BARS, _LINE, Chart("empty", "x", "y", []), Chart("one", "x", "y", [(1.0, 0.0)])):
        root = ET.fromstring(draw(chart))
        spots = [float(dot.attrib["cy"]) for dot in root.iter("circle")]
        spots += [float(bar.attrib["y"]) for bar in root.iter("rect")]

        assert root.attrib["viewBox"] == f"0 0 {WIDTH} {HEIGHT}"
        assert all(0 <= spot <= HEIGHT for spot in spots)


def test_a_higher_value_stands_higher() -> None:
    """The largest almost at the top."""
    dots = [float(dot.attrib["cy"]) for dot in ET.fromstring(draw(_LINE)).iter("circle")]

    assert dots[0] > dots[1] > dots[2]


def test_the_page_has_figures_runs_notes_and_pictures_and_asks_nobody() -> None:
    """No script, no font, no style of anybody else's."""
    report = make_report("open <i>", [Sample(OK, 0.004)], 1.0, {})
    result = Result(
        "open",
        [Figure("open.p50", 4.0)],
        [report],
        [_BARS],
        ["a note with <script>"],
        {"ingress-0": {"tasks": 2.0}},
    )
    text = page({"machine": "2 cores & more"}, summed_up([result]), [result])

    assert "added latency at 50/s, p50" in text
    assert "met" in text
    assert "2.00" in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "<i>" not in text
    assert "http" not in text
