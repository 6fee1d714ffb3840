"""Stages of requests: differences of their own timestamps, of those that took both steps."""

from __future__ import annotations

from deploy.bench.stage_log import _note
from deploy.bench.stages import STEPS, Stage, sums
from schemas.codec import encode
from tests.support.events import accepted, attempt, finished

_WHOLE = {step: 100.0 + 2 * number for number, step in enumerate(STEPS)}


def test_each_stage_is_from_one_step_to_the_next() -> None:
    """All of them, in their order."""
    stages = sums([_WHOLE])

    assert [stage.name for stage in stages][:2] == ["sent -> accepted", "accepted -> admitted"]
    assert {stage.mean_ms for stage in stages} == {2.0}
    assert len(stages) == len(STEPS) - 1


def test_means_are_exact_where_stamps_are_whole_milliseconds() -> None:
    """One request's stage may be off by one; of many the mean is not."""
    times = [{"accepted": 10.0, "admitted": 10.0 + took} for took in (0, 1, 1)]

    assert sums(times) == [Stage("accepted -> admitted", 3, 2 / 3, 1.0, 1.0)]


def test_a_stage_that_no_request_took_is_left_out() -> None:
    """A refused request was never started."""
    assert sums([{"accepted": 1.0, "finished": 2.0}]) == []


def test_records_fill_in_the_steps_of_requests_that_are_looked_for() -> None:
    """Others, and what is no record, are passed over."""
    request, outcome = accepted(), finished([attempt()], [])
    steps: dict[str, dict[str, float]] = {request.request_id: {}, outcome.request_id: {}}
    for raw in (encode(request), encode(outcome), b"\x00", None):
        _note(steps, raw)

    assert steps[request.request_id]["accepted"] == request.accepted_at_ms
    assert steps[outcome.request_id]["finished"] == outcome.finished_at_ms
    assert steps[outcome.request_id]["started"] == outcome.attempts[-1].started_at_ms
