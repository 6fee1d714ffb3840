"""The bounds of the control plane's server: how many connect, what they send, how slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from ingress.admin.http import server
from schemas.runtime.process.http_server import HttpServer

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
WITHIN_S = 5.0


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer everything."""
    await PlainTextResponse("hello")(scope, receive, send)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[HttpServer, int]]:
    """A running server and its port."""
    running = server.admin_server(greet, "127.0.0.1", 0)
    task = asyncio.create_task(running.serve())
    while not running.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield running, running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        await task


async def ask(port: int, head: bytes) -> bytes:
    """The first line of the answer; nothing when the connection ends before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head)
        return await asyncio.wait_for(reader.readline(), WITHIN_S)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_connections_beyond_the_bound_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those within it are served, and a place that becomes free is given away."""
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    async with serving() as (running, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        async with asyncio.timeout(WITHIN_S):
            while len(running.server_state.connections) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        refused = await ask(port, GET)
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(WITHIN_S):
            while running.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        served = await ask(port, GET)

    assert refused == b""
    assert served.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", GET])
async def test_a_connection_that_asks_for_nothing_gives_up_its_place(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Before its first head, within it, and after an answer."""
    monkeypatch.setattr(server, "_ASKED_WITHIN_S", 0.1)
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        try:
            answer = await asyncio.wait_for(reader.read(), WITHIN_S)
        except ConnectionResetError:
            answer = b""
        writer.close()

    assert answer.endswith(b"hello") if sent == GET else answer == b""


async def test_an_endless_head_is_refused() -> None:
    """It is never held whole."""
    async with serving() as (_, port):
        answer = await ask(port, GET[:-2] + b"x: " + b"a" * 100_000)

    assert answer.startswith(b"HTTP/1.1 4")
