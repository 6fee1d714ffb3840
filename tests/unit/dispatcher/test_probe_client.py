"""Probes ask with a client of their own, and no answer costs more than its bounds."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from dispatcher.backends.probe_client import ANSWER_BYTES_MAX
from schemas.entities import Backend
from tests.support.scripted_backend import answering, backend, probe_client, resetting_backend

_OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def _sending(data: bytes, *, for_ever: bool) -> AsyncIterator[tuple[str, list[int]]]:
    """Answers with the bytes, again and again if asked for; the bytes that were taken of it."""
    taken: list[int] = []
    answers: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.append(asyncio.current_task())
        try:
            with suppress(OSError):
                await reader.readuntil(b"\r\n\r\n")
                while not taken or for_ever:
                    writer.write(data)
                    await writer.drain()
                    taken.append(len(data))
                await reader.read()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}", taken
        await asyncio.wait_for(asyncio.gather(*filter(None, answers)), 5.0)


@pytest.mark.parametrize(
    ("status", "lives"),
    [(200, True), (302, True), (401, True), (404, True), (429, True), (500, False), (503, False)],
)
async def test_any_answer_that_is_no_server_error_is_life(status: int, lives: bool) -> None:
    """Not every server lists its models, or lists them to strangers; no redirect is followed."""
    elsewhere = {"location": "http://127.0.0.1:9/"}
    async with backend(answering(status, b"{}", elsewhere)) as url, probe_client() as client:
        assert (await client.probe(Backend(url=url))).is_alive == lives


async def test_a_probe_of_nobody_finds_nobody() -> None:
    """Refused, or reset before the answer."""
    async with resetting_backend(b"") as url, probe_client() as client:
        assert not (await client.probe(Backend(url=url))).is_alive
    async with probe_client() as client:
        assert not (await client.probe(Backend(url=url))).is_alive


async def test_backends_that_hang_cost_no_other_its_probe() -> None:
    """However many: nobody waits for their connections."""
    hanging = socket.create_server(("127.0.0.1", 0))
    silent = Backend(url=f"http://127.0.0.1:{hanging.getsockname()[1]}")
    async with backend(answering(200, b"{}", {})) as url, probe_client() as client:
        waiting = [asyncio.create_task(client.probe(silent)) for _ in range(32)]
        await asyncio.sleep(0)
        assert (await client.probe(Backend(url=url))).is_alive
        for probe in waiting:
            probe.cancel()
        await asyncio.wait(waiting)
    hanging.close()


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 " + b"x" * 65_536,
        _OK + b"x: " + b"y" * 65_536,
        _OK + b"a:b\r\n" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000,
        b"\0" * 65_536,
    ],
    ids=["status line", "header", "headers", "interim answers", "no HTTP"],
)
async def test_a_head_without_end_is_read_up_to_a_bound(data: bytes) -> None:
    """In no time: the calls of others run in the same loop."""
    async with _sending(data, for_ever=True) as (url, _), probe_client() as client:
        began_s = time.process_time()
        probe = await client.probe(Backend(url=url))

    assert not probe.is_alive
    assert time.process_time() - began_s < 0.5


async def test_a_body_without_end_is_not_read() -> None:
    """The status says it all; the connection is closed."""
    head = _OK + b"transfer-encoding: chunked\r\n\r\n"
    chunk = head + b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"
    async with _sending(chunk, for_ever=True) as (url, taken), probe_client() as client:
        assert (await client.probe(Backend(url=url))).is_alive
        await asyncio.sleep(0.05)

    assert len(taken) < 256
    assert len(head) < ANSWER_BYTES_MAX


async def test_silence_ends_within_two_seconds() -> None:
    """Also where a byte comes now and then: the time is that of the whole answer."""
    async with _sending(b"H", for_ever=False) as (url, _), probe_client() as client:
        began_s = time.monotonic()
        probe = await client.probe(Backend(url=url))

    assert probe == ("TimeoutError", False)
    assert 1.5 < time.monotonic() - began_s < 5.0


async def test_cookies_are_neither_kept_nor_sent() -> None:
    """A backend would fill the memory with them."""
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(headers={"set-cookie": f"c{len(seen)}=1; Path=/"})

    async with backend(answer) as url, probe_client() as client:
        for _ in range(2):
            assert (await client.probe(Backend(url=url))).is_alive

    assert [request.headers.get("cookie") for request in seen] == [None, None]
    assert seen[0].headers["accept-encoding"] == "identity"


async def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend is called directly, so it is probed directly."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with backend(answering(200, b"{}")) as url, probe_client() as client:
        assert (await client.probe(Backend(url=url))).is_alive
