"""Calls on kept connections: none fails because the backend closed one, none is made twice (faults.md C16)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from dispatcher.upstream.connections import IDLE_S_MAX, Connection, idle_s
from dispatcher.upstream.upstream_failure import UpstreamFailure
from dispatcher.upstream.upstreams import Upstreams
from schemas.operations import OPERATIONS
from tests.support.attempt_scene import FakeBus, asking_for, attempt_run
from tests.support.scripted_backend import choice_of, upstreams

_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
_BODY = json.dumps({"choices": [{"message": {"content": "hi"}}], "usage": _USAGE}).encode()
_SERVERS_USUAL_S = 5.0

Second = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What becomes of a connection's second request."""


@dataclass
class _Backend:
    """Answers the first request of each connection well."""

    second: Second
    headers: bytes = b""
    calls: list[int] = field(default_factory=list)
    """Number on its connection of each request."""
    connections: list[Any] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        self.connections.append(writer.get_extra_info("socket"))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                number += 1
                self.calls.append(number)
                if number > 1:
                    await self.second(writer)
                    return
                writer.write(
                    b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (self.headers, len(_BODY))
                    + _BODY
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def _hang_up(made: _Backend) -> None:
    """Without the event loop's knowledge."""
    with socket.socket(fileno=os.dup(made.connections[-1].fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _resets(writer: asyncio.StreamWriter) -> None:
    _reset(writer)


async def _closes(_: asyncio.StreamWriter) -> None:
    return


async def _begins(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 O")
    await writer.drain()
    await asyncio.sleep(0.05)
    _reset(writer)


async def _works(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.3)
    _reset(writer)


@asynccontextmanager
async def _scene(
    second: Second, headers: bytes = b""
) -> AsyncIterator[tuple[_Backend, Upstreams, str]]:
    made = _Backend(second, headers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server, upstreams() as client:
        host, port = server.sockets[0].getsockname()[:2]
        yield made, client, f"http://{host}:{port}"


async def _ask(client: Upstreams, url: str) -> bytes:
    call = client.call(choice_of(url), OPERATIONS["chat.completions"], b"{}", "r1")
    async with call as response:
        return await client.body(response)


async def test_a_call_that_the_backend_had_no_byte_of_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It hung up just then: sent once more on a fresh connection inside the same attempt, and booked once."""
    async with _scene(_resets) as (made, client, url):
        await _ask(client, url)
        _hangs_up_after_the_look(made, monkeypatch)
        run = attempt_run(client, choice_of(url), asking_for("m"), FakeBus())
        result = await run.run()

    assert (result.ending.code, result.attempt.output_tokens) == (None, 7)
    assert made.calls == [1, 1]


def _hangs_up_after_the_look(made: _Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Connection.is_usable

    def looked(self: Connection, now_s: float) -> bool:
        is_usable = look(self, now_s)
        _hang_up(made)
        return is_usable

    monkeypatch.setattr(Connection, "is_usable", looked)


async def test_a_connection_that_the_backend_hung_up_on_is_not_used() -> None:
    """The kernel knows it before the event loop does."""
    async with _scene(_resets) as (made, client, url):
        await _ask(client, url)
        _hang_up(made)
        await _ask(client, url)

    assert made.calls == [1, 1]


@pytest.mark.parametrize("second", [_resets, _closes, _works], ids=["RST", "FIN", "late RST"])
async def test_a_call_that_the_backend_may_have_read_may_have_spent(second: Second) -> None:
    """It is not sent again in its attempt; the next one may go to the same backend."""
    async with _scene(second) as (made, client, url):
        await _ask(client, url)
        run = attempt_run(client, choice_of(url), asking_for("m"), FakeBus())
        result = await run.run()

    assert made.calls == [1, 2]
    assert (result.may_have_spent, result.may_try_another, result.is_cut) == (True, True, True)


async def test_a_second_attempt_takes_no_kept_connection() -> None:
    """Nobody follows it."""
    async with _scene(_resets) as (made, client, url):
        await _ask(client, url)
        run = attempt_run(client, choice_of(url), asking_for("m"), FakeBus())
        run.number = 2
        result = await run.run()

    assert (made.calls, result.ending.code) == ([1, 1], None)


async def test_a_fresh_connection_that_ends_is_not_tried_again() -> None:
    """Nothing says that the backend has not seen the call."""
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        await reader.readuntil(b"\r\n\r\n")
        calls += 1
        _reset(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, upstreams() as client:
        with pytest.raises(UpstreamFailure):
            await _ask(client, "http://{}:{}".format(*server.sockets[0].getsockname()[:2]))

    assert calls == 1


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    """Not even half a status line."""
    async with _scene(_begins) as (made, client, url):
        await _ask(client, url)
        with pytest.raises(UpstreamFailure):
            await _ask(client, url)

    assert made.calls == [1, 2]


def test_connections_are_idle_for_less_than_servers_allow() -> None:
    """Uvicorn, Node and gunicorn close after five seconds."""
    assert IDLE_S_MAX < _SERVERS_USUAL_S


@pytest.mark.parametrize(
    ("header", "allowed_s"),
    [("timeout=3", 2.0), ("timeout=3, max=100", 2.0), ("max=5,timeout = 2", 1.0), ("timeout=0", 0.0),
     ("timeout=600", IDLE_S_MAX), ("timeout=x", IDLE_S_MAX), ("", IDLE_S_MAX), ("9" * 9_000, IDLE_S_MAX)],
)  # fmt: skip
def test_what_a_backend_says_of_keeping_is_heeded(header: str, allowed_s: float) -> None:
    """With a second for the way."""
    assert idle_s(header) == allowed_s


async def test_a_connection_that_is_about_to_close_is_not_used() -> None:
    """``Keep-Alive: timeout=1`` leaves no time for a call."""
    async with _scene(_resets, b"Keep-Alive: timeout=1\r\n") as (made, client, url):
        for _ in range(3):
            await _ask(client, url)

    assert made.calls == [1, 1, 1]
