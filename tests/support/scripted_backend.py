"""A backend inside the test's own event loop: each test says what it answers."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from dispatcher.backends.probe_client import ProbeClient
from dispatcher.upstream.upstreams import Upstreams
from dispatcher.work import Choice
from schemas.entities import Backend
from schemas.runtime.process.clock import Clock

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def backend(answer: Answer) -> AsyncIterator[str]:
    """Serves ``answer`` on a free port; yields the base URL."""
    app = web.Application()
    app.router.add_post("/v1/{operation:.+}", answer)
    app.router.add_get("/v1/models", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def resetting_backend(sent_first: bytes) -> AsyncIterator[str]:
    """Reads a request, sends the bytes given, then resets the connection."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent_first)
        await writer.drain()
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"


@asynccontextmanager
async def upstreams(
    api_keys: dict[str, str] | None = None, clock: Clock | None = None
) -> AsyncIterator[Upstreams]:
    """The client under test, open."""
    client = Upstreams(api_keys or {}, clock or Clock())
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def probe_client() -> AsyncIterator[ProbeClient]:
    """The client of probes, open; no backend has a key."""
    client = ProbeClient(lambda _: {})
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


def choice_of(url: str, **more: object) -> Choice:
    """The backend b1 at the URL."""
    return Choice("b1", Backend(url=url, **more), None)  # type: ignore[arg-type]


def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    """Always the same answer."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


def streaming(*pieces: bytes, then: Callable[[], Awaitable[object]] | None = None) -> Answer:
    """A stream of these pieces; ``then`` is awaited before it ends."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if then is not None:
            await then()
        return response

    return answer
