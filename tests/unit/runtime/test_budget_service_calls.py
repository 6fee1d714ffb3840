"""A budget service over HTTP, as odd as they come: each question ends in time, and with an answer or without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from schemas.runtime.budget_service import BudgetService, ServiceSilent

Answers = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def service_that(
    answers: Answers, timeout_s: float = 1.0, token: str | None = None
) -> AsyncIterator[BudgetService]:
    """A client of a service that answers so."""
    app = web.Application()
    app.add_routes([web.post("/{any:.*}", answers), web.get("/{any:.*}", answers)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = BudgetService(f"http://127.0.0.1:{runner.addresses[0][1]}/", timeout_s, token)
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


async def test_a_question_goes_to_its_path_with_the_token() -> None:
    """And is JSON; the answer comes as bytes."""
    seen: list[tuple[str, str, str, bytes]] = []

    async def answer(request: web.Request) -> web.Response:
        told = request.headers["authorization"], request.headers["content-type"]
        seen.append((request.path, *told, await request.read()))
        return web.Response(body=b"\xff\x00")

    async with service_that(answer, token="secret") as client:
        assert await client.post("/v1/check", b"{}") == (200, b"\xff\x00")
    assert seen == [("/v1/check", "Bearer secret", "application/json", b"{}")]


async def test_a_redirect_is_followed_nowhere() -> None:
    """The token stays with the service."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"location": "/elsewhere"}, body=b"x" * 100_000)

    async with service_that(answer) as client:
        assert await client.post("/v1/check", b"{}") == (307, b"")
    assert asked == ["/v1/check"]


async def test_an_answer_without_end_is_given_up() -> None:
    """At its bound, not at its end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        endless = web.StreamResponse()
        await endless.prepare(request)
        while True:
            await endless.write(b" " * 32_768)

    async with service_that(answer, timeout_s=5.0) as client:
        with pytest.raises(ServiceSilent, match="larger"):
            await asyncio.wait_for(client.post("/v1/check", b"{}"), 4)


@pytest.mark.parametrize("begun", [False, True], ids=["no head", "half a body"])
async def test_who_hangs_is_left_at_the_deadline(begun: bool) -> None:
    """Whether or not an answer has begun."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if begun:
            half = web.StreamResponse()
            await half.prepare(request)
            await half.write(b'{"decision":')
        await asyncio.sleep(30)
        return web.Response()

    async with service_that(answer, timeout_s=0.2) as client:
        with pytest.raises(ServiceSilent, match="no answer within"):
            await asyncio.wait_for(client.post("/v1/check", b"{}"), 2)


async def test_compressed_bytes_stay_bytes() -> None:
    """What was not asked for is not unpacked, so a bomb is its own size."""

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["accept-encoding"] == "identity"
        return web.Response(body=b"\x1f\x8b junk", headers={"content-encoding": "gzip"})

    async with service_that(answer) as client:
        assert await client.post("/v1/check", b"{}") == (200, b"\x1f\x8b junk")


async def test_a_connection_that_was_closed_meanwhile_is_no_silence() -> None:
    """A second one is tried."""
    begun: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(begun) > 1:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = BudgetService(f"http://127.0.0.1:{port}", 1.0)
        assert await client.post("/v1/check", b"{}") == (200, b"{}")
        await client.close()
    assert len(begun) == 2


@pytest.mark.parametrize("said", [b"\x00\xff\xfe", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n"])
async def test_who_speaks_no_http_is_silent(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = BudgetService(f"http://127.0.0.1:{port}", 1.0)
        with pytest.raises(ServiceSilent):
            await client.post("/v1/check", b"{}")
        await client.close()


async def test_nobody_there_is_silence() -> None:
    client = BudgetService("http://127.0.0.1:9", 1.0)
    with pytest.raises(ServiceSilent):
        await client.post("/v1/check", b"{}")
    await client.close()
