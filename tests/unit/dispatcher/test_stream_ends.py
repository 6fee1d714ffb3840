"""How streams end: whole where nothing is missing, else with the backend's words (faults.md C2, C5, C13, C17)."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiohttp import web

from dispatcher.attempts.attempt_end import AttemptResult
from schemas.errors import ErrorCode
from tests.support.attempt_scene import FakeBus, asking_for, attempt_run
from tests.support.scripted_backend import Answer, backend, choice_of, streaming, upstreams

_CHUNK = b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
_STOP = b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
_OTHER = _STOP.replace(b'"index":0', b'"index":1')
_USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}\n\n'
)
_DONE = b"data: [DONE]\n\n"
_LONG = {"error": {"message": "maximum context length is 4096 tokens, got 9000", "code": 400}}
_LONG_EVENT = b"data: " + json.dumps(_LONG).encode() + b"\n\n"


async def _stream(answer: Answer, **more: object) -> tuple[AttemptResult, FakeBus]:
    bus = FakeBus()
    async with backend(answer) as url, upstreams({"BACKEND_B1_API_KEY": "SECRET"}) as client:
        run = attempt_run(client, choice_of(url, **more), asking_for("m", stream=True), bus)
        return await run.run(), bus


def _booked(result: AttemptResult) -> tuple[int, int, bool]:
    attempt = result.attempt
    return attempt.input_tokens, attempt.output_tokens, attempt.estimated


WHOLE = {
    "no blank line after the end mark": (_CHUNK, _STOP, _USAGE, _DONE.rstrip()),
    "one line end after it": (_CHUNK, _STOP, _USAGE, _DONE[:-1]),
    "usage behind it, not ended": (_CHUNK, _STOP, _DONE, _USAGE.rstrip()),
    "no end mark": (_CHUNK, _STOP, _USAGE),
    "usage not ended, no end mark": (_CHUNK, _STOP, _USAGE.rstrip()),
    "two choices, both ended": (_CHUNK, _OTHER, _STOP, _USAGE),
    "carriage returns": tuple(e.replace(b"\n", b"\r") for e in (_CHUNK, _STOP, _USAGE, _DONE)),
    "a byte order mark": (b"\xef\xbb\xbf" + _CHUNK, _STOP, _USAGE, _DONE),
}


@pytest.mark.parametrize("pieces", WHOLE.values(), ids=WHOLE)
async def test_a_stream_in_which_nothing_is_missing_is_whole(pieces: tuple[bytes, ...]) -> None:
    """C2, C3: completed, and booked as the backend says."""
    result, bus = await _stream(streaming(*pieces))

    assert (result.ending.status, _booked(result)) == ("completed", (11, 7, False))
    assert b"hello" in bus.relayed


@pytest.mark.parametrize(
    "pieces",
    [(_CHUNK,), (_CHUNK, _USAGE), (_CHUNK, _CHUNK.replace(b'"index":0', b'"index":1'), _STOP)],
    ids=["no reason", "usage only", "one of two choices"],
)
async def test_a_stream_that_did_not_say_why_it_ends_broke_off(pieces: tuple[bytes, ...]) -> None:
    """A silent end would look like a whole answer."""
    result, _ = await _stream(streaming(*pieces))

    assert result.ending.code is ErrorCode.UPSTREAM_INTERRUPTED


async def test_a_body_that_stays_open_behind_the_end_mark_is_not_waited_for() -> None:
    """C2: at once, and whole."""
    released = asyncio.Event()
    began_s = time.monotonic()
    result, _ = await _stream(streaming(_CHUNK, _STOP, _USAGE, _DONE, then=released.wait))

    assert (result.ending.status, _booked(result)) == ("completed", (11, 7, False))
    assert time.monotonic() - began_s < 1
    assert result.verdict == "succeeded"


def _torn(*pieces: bytes) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ((_CHUNK, _STOP, _USAGE, _DONE), None),
        ((_CHUNK, _STOP, _USAGE), None),
        ((_CHUNK, _STOP), ErrorCode.UPSTREAM_INTERRUPTED),
        ((_CHUNK,), ErrorCode.UPSTREAM_INTERRUPTED),
    ],
    ids=["behind the end mark", "behind usage", "before usage", "in the middle"],
)
async def test_a_connection_that_breaks_matters_where_something_is_missing(
    pieces: tuple[bytes, ...], code: ErrorCode | None
) -> None:
    """Usage may have been on its way."""
    result, _ = await _stream(_torn(*pieces))

    assert result.ending.code is code


async def test_an_error_that_comes_first_is_a_refusal() -> None:
    """C5: its own status, its words, OpenAI's code; nothing is booked, nobody else is asked."""
    result, bus = await _stream(streaming(_LONG_EVENT, _DONE))
    ending = result.ending

    assert (ending.code, ending.answered_status) == (ErrorCode.UPSTREAM_REJECTED, 400)
    assert ending.message == _LONG["error"]["message"]
    assert ending.said is not None
    assert ending.said.code == "context_length_exceeded"
    assert (_booked(result), result.may_try_another, result.verdict) == (
        (0, 0, False),
        False,
        "succeeded",
    )
    assert bus.events == []


@pytest.mark.parametrize("glued", [True, False], ids=["in one piece", "later"])
async def test_an_error_that_comes_later_follows_what_was_good(glued: bool) -> None:
    """C5, C17: relayed and billed first, then the words."""
    pieces = (_CHUNK + _LONG_EVENT + _CHUNK,) if glued else (_CHUNK, _LONG_EVENT, _CHUNK)
    result, bus = await _stream(streaming(*pieces))

    assert bus.relayed == _CHUNK
    assert result.ending.code is ErrorCode.UPSTREAM_INTERRUPTED
    assert result.ending.message == _LONG["error"]["message"]
    assert (result.attempt.output_tokens, result.attempt.estimated) == (1, True)


async def test_a_text_instead_of_an_event_is_told() -> None:
    """What some servers write when they break."""
    result, bus = await _stream(streaming(_CHUNK + b"data: Internal Server Error\n\n"))

    assert bus.relayed == _CHUNK
    assert (result.ending.message, result.verdict) == ("Internal Server Error", "undecided")


async def test_neither_the_key_nor_the_place_of_a_backend_gets_out() -> None:
    """Whatever its words are."""

    async def answer(request: web.Request) -> web.StreamResponse:
        words = f"no SECRET at {request.host}"
        return web.json_response({"error": {"message": words, "code": 500}})

    result, _ = await _stream(answer, api_key_env="BACKEND_B1_API_KEY")

    assert result.ending.message == "no [hidden] at [hidden]"


def _words(count: int, every_s: float) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(count):
            await response.write(_CHUNK)
            await asyncio.sleep(every_s)
        await response.write(_STOP + _USAGE + _DONE)
        return response

    return answer


@pytest.mark.parametrize(
    ("times", "code", "verdict"),
    [
        ({"idle_timeout_s": 0.3}, None, "succeeded"),
        ({"timeout_s": 0.3}, None, "succeeded"),
        ({"idle_timeout_s": 0.05}, ErrorCode.DEADLINE_EXCEEDED, "failed"),
        ({"total_timeout_s": 0.3}, ErrorCode.DEADLINE_EXCEEDED, "undecided"),
    ],
    ids=["moves within its silence", "silence not given", "silent for longer", "longer than all may last"],
)  # fmt: skip
async def test_silence_is_limited_and_length_apart(
    times: dict[str, float], code: ErrorCode | None, verdict: str
) -> None:
    """C13: five words in half a second. A limit of ours is not the backend's failure (C12)."""
    result, _ = await _stream(_words(5, 0.1), **times)

    assert (result.ending.code, result.verdict) == (code, verdict)


async def test_a_whole_answer_has_its_own_time() -> None:
    """It shows no progress before it is there."""
    released = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with backend(answer) as url, upstreams() as client:
        choice = choice_of(url, timeout_s=0.05, idle_timeout_s=60)
        result = await attempt_run(client, choice, asking_for("m"), FakeBus()).run()
        released.set()

    assert (result.ending.code, result.verdict) == (ErrorCode.DEADLINE_EXCEEDED, "failed")
