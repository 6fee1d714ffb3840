"""Whatever a server sends, a check ends in time, and says what it saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aiohttp import web

from deploy.conformance.asking import ANSWER_BYTES_MAX, Bounds, check
from tests.support.fakes.hostile_backend import HostileBackend
from tests.support.fakes.shapes.table import SHAPES
from tests.support.scripted_backend import backend

_QUICK = Bounds(question_s=0.3, all_s=1.0, idle_s=0.2)
_BUSY_MACHINE_S = 3.0
_ODD = (
    "fake-no-first-byte",
    "fake-drip-head",
    "fake-drip-body",
    "fake-drip-interim",
    "fake-body-endless",
    "fake-chunk-cut",
    "fake-reset-in-body",
    "fake-usage-bomb",
    "fake-error-endless",
    "fake-deep",
    "fake-gzip-bomb",
    "fake-error-body-hangs",
)
"""Silence, drips, floods, bombs, resets."""


@pytest.mark.parametrize("model", sorted({*_ODD} & {*SHAPES}))
async def test_a_hostile_server_costs_its_questions_and_no_more(model: str) -> None:
    """Silence, floods, broken frames: each question has its bounds, and all together have one more."""
    async with HostileBackend("h").running() as url:
        began_s = time.monotonic()
        report = await check(url, model=model, bounds=_QUICK)
        took_s = time.monotonic() - began_s
        # The server notices that nobody listens, and its connections end with the test.
        await asyncio.sleep(0.1)

    assert took_s < _QUICK.all_s + _QUICK.question_s + _BUSY_MACHINE_S
    assert {"chat", "lists models", "closes idle connections"} <= {f.about for f in report.findings}


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _found(answer: Handler, **more: object) -> dict[str, tuple[str, str]]:
    async with backend(answer) as url:
        report = await check(f"{url}/v1", bounds=_QUICK, **more)  # type: ignore[arg-type]
    return {finding.about: (finding.says, finding.detail) for finding in report.findings}


async def test_a_server_that_hangs_is_left_after_few_questions() -> None:
    """The others would only hear the same."""
    asked: list[str] = []

    async def hang(request: web.Request) -> web.Response:
        asked.append(request.path)
        await asyncio.sleep(5)
        return web.Response()

    found = await _found(hang, model="m")

    assert found["chat"][0] == "no"
    assert found["max_tokens"] == ("unknown", "no whole answer within 0 s")
    assert len(asked) <= 5


async def test_an_answer_without_end_is_left_at_a_bound_of_bytes() -> None:
    """Nothing of it is kept beyond."""

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    found = await _found(flood, model="m")

    assert found["lists models"][0] == "no"
    assert found["max_tokens"] == ("unknown", f"200 {'x' * 200}")
    assert ANSWER_BYTES_MAX < 2**20


async def test_nothing_of_the_environment_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no cookie; the key and no compression."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    seen: list[web.Request] = []

    async def remember(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(status=401, headers={"set-cookie": "a=b; path=/"})

    found = await _found(remember, key="secret", model="m")

    assert found["lists models"] == ("no", "401")
    assert {request.headers["authorization"] for request in seen} == {"Bearer secret"}
    assert {request.headers.get("cookie") for request in seen} == {None}
    assert {request.headers["accept-encoding"] for request in seen} == {"identity"}


@pytest.mark.parametrize(
    ("closes_after_s", "says"), [(0.05, "yes"), (5.0, "no")], ids=["closes", "stays open"]
)
async def test_an_idle_connection_is_watched(closes_after_s: float, says: str) -> None:
    """Whoever calls again on it must have left it before."""
    is_over = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n" + b'{"data":[]}')
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), closes_after_s)
        writer.close()
        await writer.wait_closed()
        is_over.release()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        report = await check(f"http://127.0.0.1:{port}/v1", bounds=_QUICK)
        for _ in range(2):
            await is_over.acquire()

    assert {f.about: f.says for f in report.findings}["closes idle connections"] == says
    assert report.model is None


async def test_a_server_that_is_away_is_told() -> None:
    """With the client's words."""
    report = await check("http://127.0.0.1:1/v1", model="m", bounds=_QUICK)

    assert {f.about: f.says for f in report.findings}["chat"] == "no"
    assert "ConnectError" in report.findings[0].detail
