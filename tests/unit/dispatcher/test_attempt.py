"""One attempt: how a backend's behaviour becomes usage, an ending and frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web

from dispatcher.abort import Abort, DrainCap
from dispatcher.attempts.attempt import AttemptRun
from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.backends.breaker import CallEnd
from dispatcher.operations import chat
from dispatcher.operations.bindings import BINDINGS
from dispatcher.work import AbortReason
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted
from schemas.frames import Frame, Started
from schemas.operations import OPERATIONS
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import StoreError
from tests.support.attempt_scene import CAP, FakeBus, attempt_run
from tests.support.events import NOW_MS, accepted
from tests.support.scripted_backend import (
    Answer,
    answering,
    backend,
    choice_of,
    streaming,
    upstreams,
)

_USAGE = {"prompt_tokens": 12, "completion_tokens": 34}
_BODY = json.dumps({"id": "c1", "choices": [{"message": {"content": "hi"}}], "usage": _USAGE})
_CHUNK = b'data: {"id":"c1","choices":[{"delta":{"content":"hello"}}]}\n\n'
_USAGE_CHUNK = b'data: {"choices":[],"usage":' + json.dumps(_USAGE).encode() + b"}\n\n"
_ERROR = b'data: {"error":{"message":"boom"}}\n\n'
_DONE = b"data: [DONE]\n\n"


@dataclass
class _Scene:
    """One attempt against one backend."""

    run: AttemptRun
    bus: FakeBus


@asynccontextmanager
async def _scene(
    answer: Answer,
    request: RequestAccepted,
    *,
    owns_fence: bool = True,
    cap: DrainCap = CAP,
    **more: Any,
) -> AsyncIterator[_Scene]:
    bus = FakeBus()
    async with backend(answer) as url, upstreams() as client:
        choice = choice_of(url, **more)
        run = attempt_run(client, choice, request, bus, owns_fence=owns_fence, cap=cap)
        yield _Scene(run, bus)


async def _result(answer: Answer, **more: Any) -> tuple[AttemptResult, _Scene]:
    async with _scene(answer, accepted(**more)) as scene:
        return await scene.run.run(), scene


async def test_a_whole_answer_is_booked_with_the_backends_own_counts() -> None:
    """Its body is the client's, byte for byte; no frame leaves before it is booked."""
    result, scene = await _result(answering(200, _BODY.encode()))
    attempt = result.attempt

    assert (result.ending.status, result.ending.body) == ("completed", _BODY.encode())
    assert (attempt.status, attempt.upstream_status, attempt.provider_id) == (
        "succeeded",
        200,
        "c1",
    )
    assert (attempt.input_tokens, attempt.output_tokens, attempt.estimated) == (12, 34, False)
    assert (attempt.price_version, attempt.cost_nano_usd) == ("echo@4", 228_000)
    assert not result.may_try_another
    assert scene.bus.events == []


@pytest.mark.parametrize("route", [name for name in OPERATIONS if BINDINGS[name] is chat.BINDING])
async def test_a_backend_is_asked_where_the_row_says_and_under_its_own_name(route: str) -> None:
    """Whatever the public path was."""
    seen: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, (await request.json())["model"]))
        return web.Response(text=_BODY)

    async with backend(answer) as url, upstreams() as client:
        choice = msgspec.structs.replace(choice_of(url), upstream_model="echo-2")
        await attempt_run(client, choice, accepted(route=route), FakeBus()).run()

    assert seen == [(f"/v1/{OPERATIONS[route].upstream_paths['openai']}", "echo-2")]


async def test_an_answer_without_counts_is_estimated_and_says_so() -> None:
    """By an exact count of the texts."""
    body = json.dumps({"choices": [{"message": {"content": "hello world"}}]})
    attempt = (await _result(answering(200, body.encode())))[0].attempt

    assert (attempt.input_tokens, attempt.output_tokens, attempt.estimated) == (1, 2, True)


async def test_a_stream_is_noted_then_started_then_relayed() -> None:
    """The ledger hears of content before the client does."""
    answer = streaming(_CHUNK, _CHUNK, _USAGE_CHUNK, _DONE)
    result, scene = await _result(answer, stream=True, include_usage=True)

    assert scene.bus.events[:2] == ["noted", Started("b1", ())]
    assert scene.bus.relayed == _CHUNK + _CHUNK + _USAGE_CHUNK
    assert scene.bus.events.count("noted") == 1
    assert (result.ending.status, result.attempt.output_tokens) == ("completed", 34)
    assert result.attempt.first_token_at_ms == NOW_MS


async def test_nothing_leaves_once_the_fence_is_lost() -> None:
    """Somebody else runs the request now; this attempt is over."""
    async with _scene(streaming(_CHUNK, _DONE), accepted(stream=True), owns_fence=False) as scene:
        result = await scene.run.run()

    assert scene.bus.events == ["noted"]
    assert not result.may_try_another
    assert scene.run.replies.is_torn, "no end may follow that looks like that of a whole answer"


@pytest.mark.parametrize(
    "last", [_ERROR, b"", b"data: {"], ids=["error event", "silence", "half an event"]
)
async def test_a_stream_that_breaks_off_is_not_tried_elsewhere(last: bytes) -> None:
    """The client has seen content; what it got is estimated."""
    result, _ = await _result(streaming(_CHUNK, last), stream=True)

    assert result.ending.code is ErrorCode.UPSTREAM_INTERRUPTED
    assert (result.attempt.status, result.may_try_another) == ("interrupted", False)
    assert (result.attempt.output_tokens, result.attempt.estimated) == (1, True)


async def test_what_had_come_before_the_break_is_relayed_however_slow_the_stores_are() -> None:
    """While the first event is noted, the second and the break come together."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_CHUNK)
        await asyncio.sleep(0.05)
        await response.write(_CHUNK)
        assert request.transport is not None
        request.transport.close()
        return response

    async def slowly() -> bool:
        await asyncio.sleep(0.3)
        return True

    async with _scene(answer, accepted(stream=True)) as scene:
        scene.run.note_streamed = slowly
        result = await scene.run.run()

    assert scene.bus.relayed == _CHUNK + _CHUNK
    assert result.ending.code is ErrorCode.UPSTREAM_INTERRUPTED
    assert result.attempt.output_tokens == 2


@pytest.mark.parametrize("only", [_ERROR, b""], ids=["error event", "silence"])
async def test_a_stream_that_breaks_off_before_content_may_be_tried_elsewhere(only: bytes) -> None:
    """Nobody has seen a byte."""
    result, scene = await _result(streaming(only), stream=True)

    assert (result.attempt.status, result.may_try_another) == ("failed", True)
    assert scene.bus.events == []


async def test_a_refusal_of_the_backend_costs_nothing() -> None:
    """Its status reaches the client and no other backend is asked."""
    result, _ = await _result(answering(422, b'{"error":{"message":"no"}}'))

    assert (result.ending.code, result.ending.answered_status) == ("upstream_rejected", 422)
    assert (result.attempt.status, result.attempt.upstream_status) == ("failed", 422)
    assert (result.attempt.input_tokens, result.attempt.cost_nano_usd) == (0, 0)
    assert (result.may_try_another, result.may_have_spent) == (False, False)


async def test_garbage_may_have_cost_and_may_be_tried_elsewhere() -> None:
    """The backend worked, and we cannot read what it did."""
    result, _ = await _result(answering(200, b"<html>"))

    assert result.ending.code is ErrorCode.UPSTREAM_ERROR
    assert (result.may_try_another, result.may_have_spent) == (True, True)
    assert result.attempt.estimated


@pytest.mark.parametrize("hangs", ["note", "bus"])
async def test_what_was_read_to_its_end_and_has_not_left_by_the_deadline_is_no_whole_answer(
    hangs: str,
) -> None:
    """Else its client is told of success, and pays for an answer without content."""
    request = accepted(stream=True, deadline_ms=NOW_MS + 60)
    async with _scene(streaming(_CHUNK, _USAGE_CHUNK, _DONE), request) as scene:
        if hangs == "note":
            scene.run.note_streamed = cast("Any", asyncio.Event().wait)
        else:
            silent = SimpleNamespace(send=lambda *_, **__: asyncio.Event().wait(), connection=1)
            scene.run.replies.bus = cast("Bus", silent)
        result = await scene.run.run()

    assert result.ending.code is ErrorCode.DEADLINE_EXCEEDED
    assert result.attempt.output_tokens == 34, "the backend's counts are booked all the same"


def _hanging(released: asyncio.Event) -> Callable[[], Awaitable[object]]:
    return released.wait


@pytest.mark.parametrize(
    ("left_ms", "timeout_s", "elsewhere"),
    [(60, 120.0, False), (60_000, 0.06, True), (0, 120.0, False)],
    ids=["deadline of the request", "timeout of the backend", "no time at all"],
)
async def test_a_backend_that_hangs_is_left(
    left_ms: int, timeout_s: float, elsewhere: bool
) -> None:
    """504; only the backend's own timeout leaves time for another."""
    released = asyncio.Event()
    request = accepted(stream=True, deadline_ms=NOW_MS + left_ms)
    answer = streaming(then=_hanging(released))
    async with _scene(answer, request, timeout_s=timeout_s) as scene:
        result = await scene.run.run()
        released.set()

    assert result.ending.code is ErrorCode.DEADLINE_EXCEEDED
    assert (result.may_try_another, result.may_have_spent) == (elsewhere, True)


@pytest.mark.parametrize("begun", [True, False], ids=["under way", "not yet begun"])
async def test_a_cancelled_stream_that_goes_on_is_left(begun: bool) -> None:
    """After the cap; what was produced by then is estimated and booked."""
    released, arrived = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        arrived.set()
        await released.wait()

    async with _scene(streaming(_CHUNK, then=hang), accepted(stream=True)) as scene:
        run = asyncio.create_task(scene.run.run())
        if begun:
            await arrived.wait()
        scene.run.abort.end("cancelled")
        result = await asyncio.wait_for(run, 5)
        released.set()

    assert (result.ending.status, result.ending.code) == ("cancelled", "request_cancelled")
    assert (result.attempt.status, result.may_try_another) == ("cancelled", False)
    assert (result.attempt.estimated, result.verdict) == (True, "undecided")


def _slow_stream(told: asyncio.Event) -> Answer:
    """One chunk, then the rest once it is told."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_CHUNK)
        await told.wait()
        await response.write(_CHUNK + _USAGE_CHUNK + _DONE)
        return response

    return answer


_PATIENT = DrainCap(max_s=5.0, max_bytes=10_000)


@pytest.mark.parametrize(
    ("reason", "status", "ending", "relayed"),
    [
        ("cancelled", "cancelled", "cancelled", _CHUNK + _CHUNK),
        ("stale", "succeeded", "completed", _CHUNK),
        ("stopping", "succeeded", "completed", _CHUNK + _CHUNK),
    ],
)
async def test_an_aborted_stream_is_drained_for_the_backends_own_counts(
    reason: AbortReason, status: str, ending: str, relayed: bytes
) -> None:
    """A reader that comes back finds all of it; after a lost claim nothing more leaves."""
    told = asyncio.Event()
    async with _scene(_slow_stream(told), accepted(stream=True), cap=_PATIENT) as scene:
        run = asyncio.create_task(scene.run.run())
        await asyncio.wait_for(scene.bus.has_chunk.wait(), 5)
        scene.run.abort.end(reason)
        told.set()
        result = await asyncio.wait_for(run, 5)

    assert (result.attempt.status, result.ending.status) == (status, ending)
    assert (result.attempt.output_tokens, result.attempt.estimated) == (34, False)
    assert scene.bus.relayed == relayed


async def test_no_more_than_the_cap_is_drained() -> None:
    """A backend that talks on is left by size too."""
    told = asyncio.Event()
    cap = DrainCap(max_s=5.0, max_bytes=len(_CHUNK))
    async with _scene(_slow_stream(told), accepted(stream=True), cap=cap) as scene:
        run = asyncio.create_task(scene.run.run())
        await asyncio.wait_for(scene.bus.has_chunk.wait(), 5)
        scene.run.abort.end("stopping")
        told.set()
        result = await asyncio.wait_for(run, 5)

    assert result.ending.code is ErrorCode.SERVICE_UNAVAILABLE
    assert result.attempt.status == "interrupted"


async def test_a_cancelled_call_that_was_not_answered_is_left_at_once() -> None:
    """However patient the cap is; its input is estimated and booked."""
    arrived, released = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        arrived.set()
        await released.wait()
        return web.Response()

    async with _scene(answer, accepted(), cap=DrainCap(max_s=60.0, max_bytes=1)) as scene:
        run = asyncio.create_task(scene.run.run())
        await arrived.wait()
        scene.run.abort.end("cancelled")
        result = await asyncio.wait_for(run, 0.5)
        released.set()

    assert result.ending.status == "cancelled"
    assert (result.attempt.input_tokens, result.attempt.output_tokens) == (1, 0)
    assert result.attempt.estimated


async def test_only_the_backends_own_words_reach_the_client() -> None:
    """What a library says of a connection names our hosts."""
    refused, _ = await _result(answering(422, b'{"error":{"message":"no"}}'))
    broken, _ = await _result(answering(200, b"<html>"))

    assert (refused.ending.message, broken.ending.message) == ("no", None)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (answering(200, _BODY.encode()), "succeeded"),
        (answering(422, b"{}"), "succeeded"),
        (answering(429, b"{}"), "undecided"),
        (answering(500, b"{}"), "failed"),
        (answering(200, b"<html>"), "undecided"),
        (answering(200, b'{"error":{"message":"no","code":400}}'), "succeeded"),
        (answering(200, b'{"error":"down"}'), "failed"),
    ],
    ids=["answer", "refusal", "full", "error", "garbage", "refusal in a 200", "error in a 200"],
)
async def test_how_a_call_ends_speaks_for_or_against_its_backend(
    answer: Answer, verdict: CallEnd
) -> None:
    """What the client did wrong is not the backend's fault, nor is what we cannot read (faults.md C12)."""
    result, _ = await _result(answer)

    assert result.verdict == verdict


async def test_a_frame_that_the_bus_refuses_is_the_last_one() -> None:
    """A torn stream must not reach the client; the call itself is read to its end and booked."""

    async def refuse(frame: Frame, reply_to: str | None, **_: object) -> bool:
        scene.bus.events.append(type(frame.content))
        raise StoreError("OOM")

    async with _scene(streaming(_CHUNK, _USAGE_CHUNK, _DONE), accepted(stream=True)) as scene:
        scene.run.replies.bus = cast("Bus", SimpleNamespace(send=refuse, connection=1))
        result = await scene.run.run()

    assert scene.bus.events == ["noted", Started]
    assert (result.ending.status, result.attempt.output_tokens) == ("completed", 34)


async def test_only_the_first_reason_of_an_abort_counts() -> None:
    """A lost lease after a cancel is still a cancel."""
    abort = Abort(CAP)
    abort.end("cancelled")
    abort.end("stale")

    assert abort.reason == "cancelled"
