"""Calls on real sockets: slow, early, half-closed and talkative backends, and callers that leave."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dispatcher.upstream import connections as pool
from dispatcher.upstream.connecting import Connecting
from dispatcher.upstream.connections import Connections
from dispatcher.upstream.upstream_failure import UpstreamFailure
from dispatcher.upstream.upstreams import Upstreams
from schemas.operations import OPERATIONS
from tests.support.harness.certificates import Authority
from tests.support.scripted_backend import choice_of, upstreams

_GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_TOO_LARGE = b'HTTP/1.1 413 Too Large\r\nContent-Length: 27\r\n\r\n{"error":{"message":"big"}}'
_LARGE = b"x" * 4_000_000


@dataclass
class _Peer:
    """One connection of a scripted backend."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> int:
        """Read a head; the length of the body that follows."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])

    async def request(self) -> bytes:
        return await self.reader.readexactly(await self.head())

    async def say(self, sent: bytes) -> None:
        self.writer.write(sent)
        await self.writer.drain()

    def reset(self) -> None:
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def is_left(self) -> bool:
        """Whether the caller ends the connection within two seconds, whatever it sends before."""
        with suppress(ConnectionError):
            async with asyncio.timeout(2):
                while await self.reader.read(65_536):
                    pass
        return True


Script = Callable[[_Peer], Awaitable[object]]


@dataclass
class _Backend:
    script: Script
    connections: int = 0
    seen: list[object] = field(default_factory=list)
    """What the scripts returned."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.seen.append(await self.script(_Peer(reader, writer)))
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.seen.append(error)
        finally:
            writer.close()


@asynccontextmanager
async def _scene(
    script: Script, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[_Backend, Upstreams, str]]:
    made = _Backend(script)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    async with server, upstreams() as client:
        scheme = "http" if tls is None else "https"
        yield made, client, f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _ask(client: Upstreams, url: str, body: bytes = b"{}") -> bytes:
    call = client.call(choice_of(url), OPERATIONS["chat.completions"], body, "r1")
    async with call as answer:
        return await client.body(answer)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # any condition
            await asyncio.sleep(0.005)


async def _serves(peer: _Peer) -> int:
    calls = 0
    with suppress(asyncio.IncompleteReadError):
        while True:
            await peer.request()
            calls += 1
            await peer.say(_GOOD)
    return calls


async def test_one_connection_serves_calls_that_follow_each_other() -> None:
    """And as many as there are at once."""
    async with _scene(_serves) as (made, client, url):
        for _ in range(5):
            assert await _ask(client, url) == b"{}"
        assert made.connections == 1
        await asyncio.gather(*(_ask(client, url) for _ in range(7)))

        assert (made.connections, client.connections.busy) == (7, 0)


async def _reads_slowly(peer: _Peer) -> int:
    length, received = await peer.head(), b""
    while len(received) < length:
        await asyncio.sleep(0.001)
        received += await peer.reader.read(200_000)
    await peer.say(_GOOD)
    assert received == _LARGE
    return await _serves(peer)


async def test_a_large_body_arrives_whole_however_slowly_it_is_read() -> None:
    """Its connection is kept."""
    async with _scene(_reads_slowly) as (made, client, url):
        assert await _ask(client, url, _LARGE) == b"{}"
        assert await _ask(client, url) == b"{}"

        assert made.connections == 1


async def test_calls_through_tls_are_calls_as_any(tmp_path: Path) -> None:
    """Large ones, and those that follow on the same connection; whoever leaves ends it."""
    authority = Authority(tmp_path, "authority")
    pair = authority.vouch("backend")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    trusting = ssl.create_default_context(cafile=str(authority.pair.certificate))
    async with _scene(_reads_slowly, context) as (made, client, url):
        client.connections = Connections(Connecting(trusting))
        assert await _ask(client, url, _LARGE) == b"{}"
        assert await _ask(client, url) == b"{}"
        assert (made.connections, client.connections.busy) == (1, 0)
        client.connections.close()
        await _until(lambda: made.seen)

    async with _scene(_begins, context) as (made, client, url):
        client.connections = Connections(Connecting(trusting))
        call = asyncio.create_task(_ask(client, url))
        await asyncio.sleep(0.1)
        call.cancel()
        await _until(lambda: made.seen)

    assert made.seen == [True]


async def _refuses_early(peer: _Peer) -> object:
    await peer.head()
    await peer.say(_TOO_LARGE)
    return await peer.is_left()


async def _refuses_early_and_closes(peer: _Peer) -> object:
    await peer.head()
    await peer.say(_TOO_LARGE)
    return None


async def _refuses_early_and_resets(peer: _Peer) -> object:
    await peer.head()
    await peer.say(_TOO_LARGE)
    await asyncio.sleep(0.1)
    peer.reset()
    return None


@pytest.mark.parametrize(
    "script",
    [_refuses_early, _refuses_early_and_closes, _refuses_early_and_resets],
    ids=["stays", "closes", "resets"],
)
async def test_an_answer_that_comes_before_the_body_was_read_counts(script: Script) -> None:
    """The rest is not sent, and the connection is not used again."""
    async with _scene(script) as (made, client, url):
        for _ in range(2):
            with pytest.raises(UpstreamFailure) as caught:
                await _ask(client, url, _LARGE)
            assert (caught.value.upstream_status, caught.value.client_message) == (413, "big")
        await _until(lambda: len(made.seen) == 2)

    assert made.connections == 2


async def _silent(peer: _Peer) -> object:
    return await peer.is_left()


async def _begins(peer: _Peer) -> object:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    return await peer.is_left()


@pytest.mark.parametrize(
    ("script", "body"),
    [(_silent, b"{}"), (_silent, _LARGE), (_begins, b"{}")],
    ids=["before the answer", "while it is sent", "in the answer"],
)
async def test_a_caller_that_leaves_ends_the_connection(script: Script, body: bytes) -> None:
    """At once: whoever works there need not go on."""
    async with _scene(script) as (made, client, url):
        call = asyncio.create_task(_ask(client, url, body))
        await _until(lambda: client.connections.busy)
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await _until(lambda: made.seen)

        assert (made.seen, client.connections.busy) == ([True], 0)


async def test_a_deadline_ends_a_call_whose_body_nobody_reads() -> None:
    """What was not sent is forgotten."""
    async with _scene(_silent) as (made, client, url):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await _ask(client, url, _LARGE)
        await _until(lambda: made.seen)

        assert client.connections.busy == 0


async def _half_closes(peer: _Peer) -> object:
    await peer.request()
    await peer.say(_GOOD)
    peer.writer.write_eof()
    return await peer.is_left()


async def test_a_half_closed_connection_is_whole_and_not_used_again() -> None:
    """It is closed on this side too."""
    async with _scene(_half_closes) as (made, client, url):
        for _ in range(2):
            assert await _ask(client, url) == b"{}"
            await _until(lambda: len(made.seen) == made.connections)

        assert (made.seen, made.connections) == ([True, True], 2)


async def test_a_backend_that_will_not_answer_is_not_waited_for() -> None:
    """It half-closed before it had read: nothing can come any more."""

    async def script(peer: _Peer) -> object:
        await peer.head()
        peer.writer.write_eof()
        return await peer.is_left()

    async with _scene(script) as (_, client, url):
        with pytest.raises(UpstreamFailure) as caught:
            await asyncio.wait_for(_ask(client, url, _LARGE), 2)

    assert (caught.value.code, caught.value.may_have_spent) == ("upstream_error", True)


@pytest.mark.parametrize("unasked", [_GOOD, b"x", b"\r\n"], ids=["an answer", "a byte", "a line end"])  # fmt: skip
async def test_a_connection_on_which_a_backend_speaks_while_idle_is_closed(unasked: bytes) -> None:
    """Whatever it says would be the next caller's."""

    async def script(peer: _Peer) -> object:
        await peer.request()
        await peer.say(_GOOD)
        await asyncio.sleep(0.02)
        await peer.say(unasked)
        return await peer.is_left()

    async with _scene(script) as (made, client, url):
        await _ask(client, url)
        await _until(lambda: made.seen)
        await _ask(client, url)

        assert made.connections == 2


async def test_a_backend_that_speaks_first_has_no_answer() -> None:
    """Such as one of another protocol."""

    async def script(peer: _Peer) -> object:
        await peer.say(b"220 mail.example ESMTP\r\n")
        return await peer.is_left()

    async with _scene(script) as (_, client, url):
        with pytest.raises(UpstreamFailure) as caught:
            await _ask(client, url)

    assert caught.value.code in {"upstream_error", "no_backend_available"}


async def test_a_body_that_its_reader_does_not_take_waits_at_the_backend() -> None:
    """Not in memory."""
    sent = 0

    async def script(peer: _Peer) -> object:
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(400):
            await peer.say(b"x" * 65_536)
            sent += 65_536
        return None

    async with _scene(script) as (_, client, url):
        call = client.call(choice_of(url), OPERATIONS["chat.completions"], b"{}", "r1")
        async with call as answer:
            await asyncio.sleep(0.3)
            assert sent < 400 * 65_536
            received = 0
            while piece := await answer.read():
                received += len(piece)

    assert received == 400 * 65_536


async def test_an_idle_connection_is_closed_though_nobody_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backend that was taken out of the configuration keeps nothing open."""
    monkeypatch.setattr(pool, "IDLE_S_MAX", 0.05)
    async with _scene(_serves) as (made, client, url):
        await _ask(client, url)
        await _until(lambda: made.seen)

        assert (made.seen, client.connections._idle, client.connections._open) == ([1], {}, set())


async def test_an_answer_that_waits_to_be_read_is_idle_since_it_was_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its backend counts from there."""
    monkeypatch.setattr(pool, "IDLE_S_MAX", 0.05)
    async with _scene(_serves) as (made, client, url):
        call = client.call(choice_of(url), OPERATIONS["chat.completions"], b"{}", "r1")
        async with call as answer:
            await asyncio.sleep(0.1)
            assert json.loads(await client.body(answer)) == {}
        await _ask(client, url)

        assert made.connections == 2
