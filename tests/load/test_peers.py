"""The comparison beside other gateways: medians, ratios in the right direction, and what is missing."""

from __future__ import annotations

import pytest

from tests.load.peers.gateways import BACKEND, GATEWAYS, TALLYGATE, _reason
from tests.load.peers.tables import COLUMNS, cost_usd, medians, ratio, render

_PEER = next(each for each in GATEWAYS if each.name == "portkey")


@pytest.mark.parametrize(
    ("column", "ours", "theirs", "times"),
    [
        ("c64.rate", 1_000.0, 500.0, 2.0),
        ("open50.p50_ms", 6.0, 3.0, 0.5),
        ("rss_mib", 1.0, 0.0, 0.0),
    ],
)
def test_a_ratio_says_how_many_times_better_we_are(
    column: str, ours: float, theirs: float, times: float
) -> None:
    """More is better of rates, less of all else; below 1 we lose, and it is printed."""
    assert ratio(column, ours, theirs) == times


def test_medians_are_of_the_rounds_that_have_the_figure() -> None:
    """A scenario that failed once costs its round only."""
    assert medians([{"a": 1.0, "b": 5.0}, {"a": 3.0}]) == {"a": 2.0, "b": 5.0}


def test_cpu_of_a_million_requests_has_a_price() -> None:
    """1 ms each is 1 000 core seconds."""
    assert cost_usd(1.0, 0.036) == pytest.approx(0.01)


def test_losing_rows_and_missing_gateways_are_printed() -> None:
    """Whoever could not be had has its reason."""
    bifrost = GATEWAYS[-1]
    found = {
        BACKEND: [{"c64.rate": 20_000.0}],
        TALLYGATE: [{"c64.rate": 700.0, "open50.p50_ms": 6.0, "c64.cpu_ms": 2.0}],
        _PEER: [{"c64.rate": 1_400.0, "open50.p50_ms": 12.0}],
        bifrost: [],
    }
    text = render(found, {bifrost: "its program is not to be had"}, usd_a_core_hour=0.04)

    assert "| 64 connections, requests/s | 20000 | 700 | 1400 |" in text
    assert "| 64 connections, requests/s | 0.5 |" in text
    assert "| 50/s open, p50 ms | 2 |" in text
    assert "bifrost: not measured: its program is not to be had" in text


def test_every_column_is_a_figure_of_a_scenario() -> None:
    """And its name says its unit, or that it is a rate."""
    assert all(name.endswith((".rate", "_ms", "_mib")) for name in COLUMNS)


def test_a_program_that_ended_is_told_by_its_last_error() -> None:
    """Not by the version that an interpreter adds below it."""
    assert _reason("x\nError: no such host\n\nNode.js v20\n") == "Error: no such host"
    assert _reason("") == "it said nothing"
