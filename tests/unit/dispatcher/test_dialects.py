"""A backend that refuses a field: one more try inside the attempt, and it is remembered (faults C10)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.attempts.dialects import REMEMBERED_S, TRIES_MAX, Dialects
from dispatcher.operations.dialect import AS_IT_IS, Dialect
from dispatcher.work import Choice
from schemas.entities import Backend
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted
from schemas.runtime.process.clock import Clock
from tests.support.attempt_scene import FakeBus, attempt_run
from tests.support.events import accepted
from tests.support.scripted_backend import Answer, backend, choice_of, upstreams

_USAGE = {"prompt_tokens": 12, "completion_tokens": 34}
_BODY = {"id": "c1", "choices": [{"message": {"content": "hi"}}], "usage": _USAGE}
_EVENTS = b'data: {"id":"c1","choices":[{"delta":{"content":"hello there"}}]}\n\ndata: [DONE]\n\n'


class _HandClock(Clock):
    """Time moves by hand."""

    now_s = 1_000.0

    def monotonic_s(self) -> float:
        return self.now_s


def _strict(
    asked: list[dict[str, Any]], refuses: Callable[[dict[str, Any]], tuple[int, Any] | None]
) -> Answer:
    """A backend that notes what it was asked, refuses some of it and answers the rest."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append(body)
        if (refused := refuses(body)) is not None:
            return web.json_response(refused[1], status=refused[0])
        if body.get("stream"):
            return web.Response(body=_EVENTS, content_type="text/event-stream")
        return web.json_response(_BODY)

    return answer


def _forbids(*names: str) -> Callable[[dict[str, Any]], tuple[int, Any] | None]:
    def refuses(body: dict[str, Any]) -> tuple[int, Any] | None:
        found = [name for name in names if name in body]
        detail = [{"type": "extra_forbidden", "loc": ["body", name]} for name in found]
        return (422, {"detail": detail}) if found else None

    return refuses


def _request(**more: Any) -> RequestAccepted:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
    if more.get("stream"):
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return accepted(payload=json.dumps(body).encode(), **more)


async def _run(
    answer: Answer, request: RequestAccepted, dialects: Dialects, *, limited: bool = True
) -> AttemptResult:
    async with backend(answer) as url, upstreams() as client:
        choice = Choice("b1", choice_of(url).backend, None)
        run = attempt_run(client, choice, request, FakeBus(), dialects=dialects)
        limit = 10**12 if limited else None
        holds = [msgspec.structs.replace(hold, limit=limit) for hold in run.job.admitted.holds]
        run.job = msgspec.structs.replace(
            run.job, admitted=msgspec.structs.replace(run.job.admitted, holds=holds)
        )
        return await run.run()


async def test_a_model_that_refuses_max_tokens_is_asked_by_the_other_name_at_once() -> None:
    """One attempt is booked, with the usage of the call that was answered."""
    asked: list[dict[str, Any]] = []

    def refuses(body: dict[str, Any]) -> tuple[int, Any] | None:
        said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."
        return (400, {"error": {"message": said}}) if "max_tokens" in body else None

    result = await _run(_strict(asked, refuses), _request(), Dialects(Clock()))

    assert (result.ending.status, result.attempt.status) == ("completed", "succeeded")
    assert (result.attempt.input_tokens, result.attempt.output_tokens) == (12, 34)
    assert [body.get("max_completion_tokens") for body in asked] == [None, 50]
    assert "max_tokens" not in asked[1]


async def test_a_server_that_refuses_stream_options_streams_without_usage() -> None:
    """Its stream is relayed, and what it used is estimated."""
    asked: list[dict[str, Any]] = []
    answer = _strict(asked, _forbids("stream_options"))

    result = await _run(answer, _request(stream=True), Dialects(Clock()))

    assert result.ending.status == "completed"
    assert result.attempt.estimated
    assert result.attempt.output_tokens == 2
    assert ["stream_options" in body for body in asked] == [True, False]
    assert asked[1]["max_tokens"] == 50


async def test_what_is_configured_needs_no_lesson() -> None:
    """A backend whose entry says so is never sent ``stream_options``."""
    asked: list[dict[str, Any]] = []
    async with backend(_strict(asked, lambda _: None)) as url, upstreams() as client:
        choice = choice_of(url, stream_options=False)
        await attempt_run(client, choice, _request(stream=True), FakeBus()).run()

    assert ["stream_options" in body for body in asked] == [False]


async def test_a_limit_that_no_name_is_known_for_is_kept_where_a_balance_counts_on_it() -> None:
    """The client is told what the backend said; where nothing is limited the call is made without."""
    for limited, status in ((True, "failed"), (False, "completed")):
        asked: list[dict[str, Any]] = []
        answer = _strict(asked, _forbids("max_tokens", "max_completion_tokens"))

        result = await _run(answer, _request(), Dialects(Clock()), limited=limited)

        assert result.ending.status == status
        assert result.may_have_spent is not limited
        assert len(asked) == (2 if limited else 3)


async def test_a_backend_that_refuses_everything_is_asked_few_times() -> None:
    """And its last refusal reaches the client; nothing is booked."""
    asked: list[dict[str, Any]] = []

    def refuses(_: dict[str, Any]) -> tuple[int, Any]:
        return 400, {"error": "unknown fields: max_tokens max_completion_tokens stream_options"}

    result = await _run(
        _strict(asked, refuses), _request(stream=True), Dialects(Clock()), limited=False
    )

    assert result.ending.code is ErrorCode.UPSTREAM_REJECTED
    assert len(asked) == TRIES_MAX
    assert result.attempt.cost_nano_usd == 0


def _lane() -> Choice:
    return Choice("b1", Backend(url="http://127.0.0.1:9"), None)


def test_a_lesson_is_remembered_for_its_backend_and_model_and_no_other() -> None:
    """A new address of the backend is another one."""
    dialects, learned = Dialects(Clock()), Dialect("max_completion_tokens")
    dialects.answered(_lane(), "o4", learned)

    assert dialects.spoken(_lane(), "o4") == learned
    assert dialects.spoken(_lane(), "gpt") == AS_IT_IS
    elsewhere = Choice("b1", Backend(url="http://127.0.0.1:8"), None)
    assert dialects.spoken(elsewhere, "o4") == AS_IT_IS


def test_a_lesson_is_forgotten_after_an_hour() -> None:
    """A backend that was updated is asked as everybody again."""
    clock = _HandClock()
    dialects = Dialects(clock)
    dialects.answered(_lane(), "o4", Dialect("max_completion_tokens"))
    clock.now_s += REMEMBERED_S - 1
    assert dialects.spoken(_lane(), "o4") != AS_IT_IS
    clock.now_s += 1

    assert dialects.spoken(_lane(), "o4") == AS_IT_IS


def test_a_lesson_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not at every try after it was forgotten."""
    dialects = Dialects(Clock())
    with caplog.at_level("INFO"):
        dialects.answered(_lane(), "o4", Dialect("max_completion_tokens"))
        dialects.answered(_lane(), "o4", Dialect("max_completion_tokens"))

    assert len([r for r in caplog.records if "dialect_learned" in r.getMessage()]) == 1
