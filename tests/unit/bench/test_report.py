"""What a run found: percentiles by nearest rank, the warm-up cut, tokens, first bytes, figures over several runs."""

from __future__ import annotations

import pytest

from deploy.bench.bench import Unmeasurable, measured, own_cpu_ms, stores_cpu_ms
from deploy.bench.connection import OK, TIMEOUT
from deploy.bench.figures import Figure, Result, percentile_chart, summed_up
from deploy.bench.goals import GOALS, Goal
from deploy.bench.load import Driven, after_warm_up
from deploy.bench.process_cost import Cost
from deploy.bench.report import Sample, latency, make_report, tokens_of


def test_a_percentile_is_a_latency_that_was_seen() -> None:
    """Nearest rank, never an interpolation; p95 of 20 is the nineteenth."""
    spread = latency(number / 1_000 for number in range(1, 21))

    assert spread is not None
    assert (spread.p50_ms, spread.p90_ms, spread.p95_ms, spread.p99_ms) == (10, 18, 19, 20)


def test_what_was_planned_in_the_warm_up_is_cut() -> None:
    """By its plan and not by its end: a slow first answer does not slip in."""
    samples = [Sample(OK, 5.0, planned_s=0.9), Sample(OK, 0.1, planned_s=1.0)]

    assert after_warm_up(samples, 1.0) == samples[1:]


def test_tokens_of_a_stream_are_its_events_without_the_two_that_end_it() -> None:
    """An answer that is no stream has none."""
    assert [tokens_of(Sample(OK, 1.0, events=events)) for events in (0, 2, 22)] == [0, 0, 20]


def test_time_to_the_first_token_is_of_good_answers() -> None:
    """A stream that broke may have begun quickly."""
    samples = [
        Sample(OK, 1.0, 0.0, 0.2, 12),
        Sample("stream_broken", 0.1, 0.0, 0.001, 3),
        Sample(TIMEOUT, 30.0),
    ]
    report = make_report("streams", samples, 2.0, {})

    assert report.first is not None
    assert (report.first.samples, report.first.p50_ms) == (1, 200)
    assert report.tokens_per_s == (10 + 1) / 2.0


def _driven(samples: list[Sample]) -> Driven:
    costs = {
        "ingress-0": Cost(0.3, 0.1, 70.0),
        "admin-0": Cost(0.1, 0.0, 70.0),
        "kafka": Cost(0.4, 0.1, 300.0),
        "ledger": Cost(0.2, 0.1, 10.0),
        "fake backend": Cost(5.0, 0.5, 30.0),
    }
    return Driven(
        samples=samples,
        send_delays_s=[0.0],
        duration_s=1.0,
        costs=costs,
        reference_cpu_ms=1.5,
        began_ms=0,
    )


def test_cpu_of_ours_and_of_the_stores_are_told_apart() -> None:
    """Backend and driver are neither."""
    report = measured("closed", _driven([Sample(OK, 0.1)])).report

    assert own_cpu_ms(report) == pytest.approx(0.4)
    assert stores_cpu_ms(report) == pytest.approx(0.6)


def test_a_run_without_a_good_answer_cannot_be_measured() -> None:
    """Its errors say why."""
    found = measured("open", _driven([Sample("http_401", 0.1)]))

    with pytest.raises(Unmeasurable, match="http_401"):
        assert found.latency


def test_figures_of_several_runs_are_their_median_and_spread() -> None:
    """Judged by the median."""
    runs = [Result("open", [Figure("open.p50", value)]) for value in (4.0, 9.0, 4.5)]
    (found,) = summed_up(runs)

    assert (found.median, found.least, found.most, found.runs) == (4.5, 4.0, 9.0, 3)
    assert (found.goal, found.is_met, found.unit) == ("<= 5", True, "ms")


def test_a_figure_without_a_goal_is_not_judged() -> None:
    """It says itself what it is about."""
    (found,) = summed_up([Result("open", [Figure("open.total_p50", 7.0, "latency", "ms")])])

    assert (found.about, found.is_met, found.goal) == ("latency", None, "")


@pytest.mark.parametrize(("value", "is_met"), [(999.9, False), (1_000.0, True)])
def test_a_goal_may_be_reached_from_below(value: float, is_met: bool) -> None:
    """Rates are at least their goal, times at most."""
    assert GOALS["closed.rate"].is_met(value) is is_met
    assert Goal("x", "ms", at_most=value).is_met(value)


def test_the_percentile_picture_ends_at_the_slowest() -> None:
    """From the quickest answer on."""
    chart = percentile_chart("open", [number / 1_000 for number in range(1, 1_001)])

    assert chart.points[0] == (0.0, 1.0)
    assert chart.points[-1] == (100.0, 1_000.0)
