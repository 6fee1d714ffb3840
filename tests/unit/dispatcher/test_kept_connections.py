"""Calls on kept connections: none fails because the backend closed one, none is made twice (faults.md C16)."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from dispatcher.upstream import connections
from dispatcher.upstream.connections import IDLE_S_MAX, Answering
from dispatcher.upstream.upstream_failure import UpstreamFailure
from dispatcher.upstream.upstreams import Upstreams
from schemas.errors import ErrorCode
from schemas.operations import OPERATIONS
from tests.support.attempt_scene import FakeBus, asking_for, attempt_run
from tests.support.events import accepted
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
    is_broken: bool = False
    """Whether it answers no first request any more either."""
    refusal: bytes = b""
    """What it answers to first requests, with status 400."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                number += 1
                self.calls.append(number)
                if number > 1 or self.is_broken:
                    await self.second(writer)
                    return
                status, body = (b"400 No", self.refusal) if self.refusal else (b"200 OK", _BODY)
                head = b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n"
                writer.write(head % (status, self.headers, len(body)) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


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


async def _ask(client: Upstreams, url: str, *, may_resend: bool = True) -> bytes:
    operation = OPERATIONS["chat.completions"]
    async with client.call(choice_of(url), operation, b"{}", "r1", lambda: may_resend) as response:
        return await client.body(response)


@pytest.mark.parametrize("second", [_resets, _closes], ids=["RST", "FIN"])
async def test_a_call_that_met_a_closed_connection_is_sent_again(second: Second) -> None:
    """Once, on a fresh one, inside the same attempt; what is booked is the answer's."""
    async with _scene(second) as (made, client, url):
        for _ in range(2):
            run = attempt_run(client, choice_of(url), asking_for("m"), FakeBus())
            result = await run.run()
            assert (result.ending.code, result.attempt.output_tokens) == (None, 7)

    assert made.calls == [1, 2, 1]


async def test_a_request_is_sent_twice_at_the_most() -> None:
    """Where it fails on a fresh connection as well nobody else may try."""
    async with _scene(_resets) as (made, client, url):
        await _ask(client, url)
        made.is_broken = True
        result = await attempt_run(client, choice_of(url), asking_for("m"), FakeBus()).run()

    assert (made.calls, result.reads, result.may_try_another) == ([1, 2, 1], 2, False)


@pytest.mark.parametrize("second", [_resets, _closes], ids=["RST", "FIN"])
async def test_a_call_that_met_a_closed_connection_goes_to_another_backend(second: Second) -> None:
    """Who closed it may be dying. It has spent nothing, and that it closed speaks against nobody."""
    async with _scene(second) as (made, client, url):
        await _ask(client, url)
        asked = asking_for("m")
        run = attempt_run(client, choice_of(url), asked, FakeBus(), has_other=lambda: True)
        result = await run.run()

    assert (made.calls, result.reads, result.is_moved) == ([1, 2], 1, True)
    assert (result.may_try_another, result.may_have_spent) == (True, False)
    assert (result.verdict, result.attempt.output_tokens) == ("undecided", 0)


async def test_the_last_call_of_a_request_uses_no_kept_connection() -> None:
    """It could not be sent again."""
    async with _scene(_resets) as (made, client, url):
        await _ask(client, url)
        run = attempt_run(client, choice_of(url), asking_for("m"), FakeBus(), is_last=True)
        result = await run.run()

    assert (made.calls, result.ending.code) == ([1, 1], None)


async def test_closed_connections_between_lessons_count_together() -> None:
    """A refusal in between, from which a field's other name is learned, gives no further call."""
    body = b'{"model":"m","messages":[],"max_tokens":5}'
    async with _scene(_resets) as (made, client, url):
        await _ask(client, url)
        made.refusal = b"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."
        run = attempt_run(client, choice_of(url), accepted(model="m", payload=body), FakeBus())
        result = await run.run()

    assert (made.calls, result.reads, result.may_try_another) == ([1, 2, 1, 2], 2, False)


async def test_a_refused_connection_is_no_closed_one() -> None:
    """Not even in a task whose call before met one."""
    async with _scene(_resets) as (made, client, url):
        await _ask(client, url)
        with pytest.raises(UpstreamFailure, match="closed"):
            await _ask(client, url, may_resend=False)
        with pytest.raises(UpstreamFailure) as caught:
            await _ask(client, "http://127.0.0.1:1", may_resend=False)

    assert (caught.value.code, made.calls) == (ErrorCode.NO_BACKEND, [1, 2])


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


async def test_a_backend_that_took_its_time_may_have_worked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that closes an idle connection does so at once."""
    monkeypatch.setattr(connections, "_STALE_S", 0.1)
    async with _scene(_works) as (made, client, url):
        await _ask(client, url)
        with pytest.raises(UpstreamFailure) as caught:
            await _ask(client, url)

    assert (made.calls, caught.value.may_have_spent) == ([1, 2], True)


def test_connections_are_idle_for_less_than_servers_allow() -> None:
    """Uvicorn, Node and gunicorn close after five seconds."""
    assert IDLE_S_MAX < _SERVERS_USUAL_S


@pytest.mark.parametrize(
    ("header", "idle_s"),
    [("timeout=3", 2.0), ("timeout=3, max=100", 2.0), ("max=5,timeout = 2", 1.0), ("timeout=0", 0.0),
     ("timeout=600", IDLE_S_MAX), ("timeout=x", IDLE_S_MAX), ("", IDLE_S_MAX), ("9" * 9_000, IDLE_S_MAX)],
)  # fmt: skip
async def test_what_a_backend_says_of_keeping_is_heeded(header: str, idle_s: float) -> None:
    """With a second for the way."""
    connection = Answering(asyncio.get_running_loop())
    connection.keep(header)

    assert connection.idle_s_max == idle_s


async def test_a_connection_that_is_about_to_close_is_not_used() -> None:
    """``Keep-Alive: timeout=1`` leaves no time for a call."""
    async with _scene(_resets, b"Keep-Alive: timeout=1\r\n") as (made, client, url):
        for _ in range(3):
            await _ask(client, url)

    assert made.calls == [1, 1, 1]
