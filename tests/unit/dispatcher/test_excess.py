"""Counts above the proved bound: booked within the window, capped above it, held from then on (design §14.16)."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from dispatcher.attempts.excess import (
    KNOWN_AFTER_MS,
    LEARNED_TOKENS_MAX,
    REMEMBERED_S,
    TOOL_CALLS_MAX,
    WINDOW_TOKENS,
    Excesses,
    Judged,
    judged,
)
from dispatcher.work import AdmittedRequest, Choice
from schemas.entities import Backend, Model, Target
from schemas.events import Reach, RequestAccepted
from schemas.pricing.counts import TokenCounts
from schemas.reports import Excess
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from tests.support.events import DISPATCHED_AT, NOW_MS, accepted, admitted

CHOICE = Choice("gpu", Backend(url="http://gpu/v1"), None)
WINDOW = 8_000


def _request(**more: Any) -> RequestAccepted:
    bounds = {"input_tokens_bound": 300, "output_tokens_bound": 5, "model": "m"}
    return accepted(**{**bounds, **more})


@dataclass
class _Clock(Clock):
    """Time that the test moves."""

    passed_s: float = 0.0

    def now_ms(self) -> int:
        return NOW_MS + int(self.passed_s * 1000)

    def monotonic_s(self) -> float:
        return self.passed_s


@dataclass
class _Watched:
    """The excesses of one model, whose requests are accepted and answered at once."""

    window: int | None = WINDOW
    clock: _Clock = field(default_factory=_Clock)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        model = Model(backends=(Target("gpu"),), context_window_tokens=self.window)
        self.excesses = Excesses(lambda: {"m": model}, self.metrics, self.clock)

    def answered(self, input_tokens: int, output_tokens: int = 5) -> Judged:
        """An answer that says so, of a request which holds what was learned before."""
        held = self.held
        request = _request(
            accepted_at_ms=self.clock.now_ms(),
            input_tokens_bound=300 + held.input_tokens,
            output_tokens_bound=5 + held.output_tokens,
        )
        job = AdmittedRequest(admitted(request), request, DISPATCHED_AT)
        return self.excesses.judge(job, CHOICE, 1, TokenCounts(input_tokens, output_tokens))

    @property
    def held(self) -> Excess:
        return self.excesses.at("gpu").get("m", Excess())


def test_what_a_window_can_hold_is_booked_as_it_was_said() -> None:
    """A backend that heeds no limit, or adds instructions of its own."""
    said = TokenCounts(7_000, 900, cached_tokens=6_000, reasoning_tokens=800)

    assert judged(said, _request(), WINDOW) == Judged(said)


@pytest.mark.parametrize(
    ("said", "booked"),
    [
        (TokenCounts(8_001, 5, cached_tokens=8_000), TokenCounts(300, 5)),
        (TokenCounts(11, 8_006, reasoning_tokens=9), TokenCounts(11, 5)),
        (TokenCounts(2**53 - 1, 2**53 - 1), TokenCounts(300, 5)),
        (
            TokenCounts(11, 5, tool_calls=TOOL_CALLS_MAX + 1, tool_kinds=(("web_search", 1_001),)),
            TokenCounts(11, 5),
        ),
    ],
    ids=["input", "output", "both", "calls of tools"],
)
def test_what_no_window_can_hold_is_booked_at_the_bound(
    said: TokenCounts, booked: TokenCounts
) -> None:
    """What was said is kept beside it; what is possible of it stays."""
    assert judged(said, _request(), WINDOW) == Judged(booked, said)


def test_a_proved_bound_above_the_window_counts() -> None:
    """A window that an operator set too small does not cap what was held."""
    said = TokenCounts(9_000, 9_000)

    wide = _request(input_tokens_bound=9_000, output_tokens_bound=9_000)
    assert judged(said, wide, WINDOW) == Judged(said)


def test_each_choice_may_fill_the_window() -> None:
    """Three answers were asked for."""
    said = TokenCounts(11, 3 * WINDOW)
    body = {"model": "m", "n": 3, "messages": [{"role": "user", "content": "hi"}]}

    assert judged(said, _request(payload=json.dumps(body).encode()), WINDOW) == Judged(said)
    assert judged(said, _request(), WINDOW).booked == TokenCounts(11, 5)
    assert judged(said, _request(payload=b"{"), WINDOW).booked == TokenCounts(11, 5)


def test_the_bound_of_hosted_tools_is_booked_where_their_calls_cannot_be() -> None:
    """It was held."""
    said = TokenCounts(11, 5, tool_calls=10**6)

    request = _request(reach=Reach(tool_calls_bound=4))

    assert judged(said, request, WINDOW).booked == TokenCounts(11, 5, tool_calls=4)


def test_a_model_without_a_window_has_the_largest() -> None:
    """The real use of a backend that ignores the limit is booked (case B17)."""
    watched = _Watched(window=None)

    assert watched.answered(11, 900) == Judged(TokenCounts(11, 900))
    assert watched.answered(WINDOW_TOKENS + 1, 5).booked.input_tokens == 300


def test_an_excess_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """With the request, the backend, and both numbers."""
    watched = _Watched()
    with caplog.at_level(logging.ERROR):
        watched.answered(1_000)
        watched.answered(10**9)

    above, impossible = (record.getMessage() for record in caplog.records)
    bound = "tool_calls=0 input_tokens_bound=300 output_tokens_bound=5"
    whose = "backend=gpu entity=model/m"
    assert f"{whose} input_tokens=1000 output_tokens=5 {bound} cause=booked as said" in above
    assert f"{whose} input_tokens=1000000000 output_tokens=5 " in impossible
    assert impossible.endswith("cause=impossible: booked at the bound")
    page = watched.metrics.page()
    assert b'tallygate_excess_usage_total{verdict="booked"} 1.0' in page
    assert b'tallygate_excess_usage_total{verdict="capped"} 1.0' in page


def test_what_was_exceeded_is_held_from_then_on() -> None:
    """So that the next request of that model fits its hold."""
    watched = _Watched()

    watched.answered(1_000, 900)

    assert watched.held == Excess(700, 895)
    assert watched.excesses.at("other") == {}


def test_answers_of_requests_that_could_not_hold_it_yet_do_not_add_up() -> None:
    """A hundred were under way."""
    watched = _Watched()
    for said in (1_000, 900, 1_000):
        request = _request(accepted_at_ms=NOW_MS)
        job = AdmittedRequest(admitted(request), request, DISPATCHED_AT)
        watched.excesses.judge(job, CHOICE, 1, TokenCounts(said, 5))

    assert watched.held == Excess(700)


def test_what_exceeds_a_raised_bound_adds_to_it() -> None:
    """Once requests hold what was learned, the bound is larger by that."""
    watched = _Watched()
    watched.answered(1_000)
    watched.clock.passed_s = KNOWN_AFTER_MS / 1000 + 1

    watched.answered(1_050)

    assert watched.held == Excess(750)


def test_an_excess_is_forgotten_an_hour_after_it_was_last_needed() -> None:
    """One odd answer does not make a model dearer for ever."""
    watched = _Watched()
    watched.answered(1_000)
    watched.clock.passed_s = REMEMBERED_S - 60
    watched.answered(900)
    watched.clock.passed_s = REMEMBERED_S + 60
    assert watched.held == Excess(700)

    watched.answered(200)
    watched.clock.passed_s = 2 * REMEMBERED_S

    assert watched.held == Excess()
    assert watched.answered(200) == Judged(TokenCounts(200, 5))


def test_one_odd_answer_cannot_close_a_model() -> None:
    """What is added to holds has a bound, the window where one is stated; what cannot be adds nothing."""
    free, stated = _Watched(window=None), _Watched(window=500_000)
    free.answered(9_000_000)
    stated.answered(400_000)
    stated.answered(10**12)

    assert free.held == Excess(LEARNED_TOKENS_MAX)
    assert stated.held == Excess(399_700)
