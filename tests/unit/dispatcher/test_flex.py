"""A flex request at the dispatcher: it says its tier, and runs no longer than others however long it may wait."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from dispatcher.amounts import outcome
from dispatcher.handler import Dispatching
from dispatcher.operations.flex import events_told_flex, says_tier, told_flex
from dispatcher.work import AdmittedRequest, Result
from schemas.events import Reach, RequestAccepted
from schemas.times import FULL
from tests.support.attempt_scene import FixedClock
from tests.support.events import DISPATCHED_AT, NOW_MS, accepted, admitted

_HOUR_MS = 3_600_000


def _flex(**more: object) -> RequestAccepted:
    fields = {"route": "chat.completions", "background": True, "reach": Reach(service_tier="flex")}
    return accepted(**(fields | more))


def _job(request: RequestAccepted) -> AdmittedRequest:
    return AdmittedRequest(admitted(request), request, DISPATCHED_AT)


def _bounded(job: AdmittedRequest) -> AdmittedRequest:
    nothing: Any = None
    dispatching = Dispatching(
        claiming=nothing,
        failover=nothing,
        closing=nothing,
        leases=nothing,
        unreadable=nothing,
        dead_letters=nothing,
        metrics=nothing,
        clock=FixedClock(),
        is_fresh=lambda _: False,
    )
    return dispatching._bounded(job)


def test_it_runs_no_longer_than_others_and_its_outcome_says_until_when_it_might_wait() -> None:
    """What is kept for late copies of it, and by a rebuild, goes by the deadline that it was accepted with."""
    due_ms = NOW_MS + 5 * _HOUR_MS
    job = _bounded(_job(_flex(accepted_at_ms=NOW_MS - _HOUR_MS, deadline_ms=due_ms)))

    assert job.request.deadline_ms == NOW_MS + FULL.deadline_max_ms
    assert job.deadline_ms == due_ms
    assert outcome(job, [], Result("completed"), 1, NOW_MS).deadline_ms == due_ms


def test_what_is_left_of_its_time_is_its_time() -> None:
    """It ends at its deadline, if that is near."""
    near_ms = NOW_MS + 60_000
    job = _bounded(_job(_flex(accepted_at_ms=NOW_MS - _HOUR_MS, deadline_ms=near_ms)))

    assert (job.request.deadline_ms, job.deadline_ms) == (near_ms, near_ms)


def test_others_are_as_they_are() -> None:
    """The same object, with the deadline that it has."""
    job = _job(accepted(accepted_at_ms=NOW_MS, deadline_ms=NOW_MS + FULL.deadline_max_ms))

    assert _bounded(job) is job
    assert job.deadline_ms == job.request.deadline_ms


def test_an_answer_says_that_it_was_flex_whatever_the_backend_calls_it() -> None:
    """Nothing else of it changes; what is no object stays as it is."""
    body = b'{"id":"c","service_tier":"default","usage":{"n":1e2},"choices":[]}'

    told = told_flex(body)

    assert json.loads(told) == {**json.loads(body), "service_tier": "flex"}
    assert b'"n":1e2' in told
    assert json.loads(told_flex(b'{"id":"c"}')) == {"id": "c", "service_tier": "flex"}
    assert told_flex(b"[1]") == b"[1]"
    assert told_flex(b"{") == b"{"


def test_each_chunk_of_a_stream_says_it() -> None:
    """Comments and end marks stay."""
    events = (
        b'data: {"id":"c"}\n\n: ping\n\ndata: {"id":"c","service_tier":null}\n\ndata: [DONE]\n\n'
    )

    told = events_told_flex(events)

    assert told == (
        b'data: {"id":"c","service_tier":"flex"}\n\n: ping\n\n'
        b'data: {"id":"c","service_tier":"flex"}\n\ndata: [DONE]\n\n'
    )


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (_flex(), True),
        (_flex(route="jobs"), True),
        (_flex(route="embeddings"), False),
        (_flex(background=False), False),
        (msgspec.structs.replace(_flex(), reach=None), False),
    ],
)
def test_only_answers_that_have_a_tier_say_it(request_: RequestAccepted, *, says: bool) -> None:
    """Vectors have none, and of one that was passed on by an earlier version the backend's word stands."""
    assert says_tier(request_) is says
