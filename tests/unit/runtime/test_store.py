"""The store connection against a server that misbehaves on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from schemas.runtime.store import Send, StoreConnection, StoreError, StoreUnavailable
from schemas.runtime.subscription import Subscription
from tests.unit.runtime.resp_server import RespServer, echo, resp_server


@asynccontextmanager
async def _connected(server: RespServer) -> AsyncIterator[StoreConnection]:
    store = StoreConnection(server.url)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for what the connection does by itself; five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # the connection announces nothing
            await asyncio.sleep(0.005)


async def test_replies_resolve_in_the_order_of_their_commands() -> None:
    """However they are awaited, and whatever else is under way."""
    async with resp_server() as server, _connected(server) as store:
        calls = [store.call("ECHO", number) for number in range(500)]
        replies = await asyncio.gather(*reversed(calls))

    assert replies == [b"%d" % number for number in reversed(range(500))]


async def test_commands_of_one_turn_leave_in_one_write() -> None:
    """What makes batches cheap."""
    async with resp_server() as server, _connected(server) as store:
        await asyncio.gather(*(store.call("ECHO", number) for number in range(50)))

    assert (len(server.commands), server.reads) == (50, 1)


async def test_an_error_reply_fails_its_own_call_only() -> None:
    """The first word is the server's code."""

    def answer(command: list[bytes]) -> bytes:
        return b"-WRONGTYPE not a list\r\n" if command[0] == b"LPUSH" else echo(command)

    async with resp_server(answer) as server, _connected(server) as store:
        failing, working = store.call("LPUSH", "k", "v"), store.call("ECHO", "ok")
        with pytest.raises(StoreError, match="WRONGTYPE not a list"):
            await failing
        assert await working == b"ok"


async def test_a_reply_nobody_waits_for_any_more_is_skipped() -> None:
    """The next caller gets its own reply."""
    async with resp_server() as server, _connected(server) as store:
        given_up, waiting = store.call("ECHO", "1"), store.call("ECHO", "2")
        given_up.cancel()

        assert await waiting == b"2"


async def test_a_lost_connection_fails_the_calls_under_way() -> None:
    """As unavailable: they may or may not have been carried out."""
    async with resp_server(lambda _: b"") as server, _connected(server) as store:
        call = store.call("SET", "k", "v")
        await _until(lambda: bool(server.commands))
        server.cut()

        with pytest.raises(StoreUnavailable, match="connection lost"):
            await call


async def test_calls_fail_at_once_while_the_server_is_away() -> None:
    """Callers decide how long to wait, not the connection."""
    async with resp_server() as server, _connected(server) as store:
        await server.go_away()
        await _until(lambda: not store.connected)
        call = store.call("ECHO", "x")

        assert call.done()
        with pytest.raises(StoreUnavailable, match="not connected"):
            await call


async def test_it_reconnects_by_itself() -> None:
    """Also after several failures."""
    async with resp_server() as server, _connected(server) as store:
        await server.go_away()
        await _until(lambda: not store.connected)
        await asyncio.sleep(0.1)
        await server.come_back()
        await _until(lambda: store.connected)

        assert await store.call("ECHO", "again") == b"again"


async def test_on_connect_runs_on_every_connection_before_anything_else() -> None:
    """Functions are loaded there, because they vanish with the data of a store."""

    async def load(send: Send) -> None:
        await send("FUNCTION", "LOAD")

    async with resp_server() as server:
        store = StoreConnection(server.url, load)
        await store.start()
        await store.call("ECHO", "1")
        server.cut()
        await _until(lambda: len(server.commands) > 2 and store.connected)
        await store.call("ECHO", "2")
        await store.stop()

    assert [command[0] for command in server.commands] == [b"FUNCTION", b"ECHO"] * 2


async def test_nobody_else_gets_in_while_on_connect_fails() -> None:
    """A store without its functions is no store."""

    def answer(command: list[bytes]) -> bytes:
        return b"-ERR cannot load\r\n" if command[0] == b"FUNCTION" else echo(command)

    async def load(send: Send) -> None:
        await send("FUNCTION", "LOAD")

    async with resp_server(answer) as server:
        store = StoreConnection(server.url, load)
        with pytest.raises(StoreUnavailable, match="cannot load"):
            await store.start()
        with pytest.raises(StoreUnavailable):
            await store.call("ECHO", "1")
        await store.stop()


async def test_nobody_gets_in_before_the_introduction_is_over() -> None:
    """A command before AUTH and SELECT would be refused, or meet the wrong database."""
    async with resp_server(lambda _: b"") as server:
        store = StoreConnection(f"redis://:secret@127.0.0.1:{server.port}/3")
        starting = asyncio.create_task(store.start())
        await _until(lambda: bool(server.commands))
        with pytest.raises(StoreUnavailable, match="not connected"):
            await store.call("ECHO", "x")
        starting.cancel()
        await asyncio.wait([starting])
        await store.stop()

    assert [command[0] for command in server.commands] == [b"AUTH"]


async def test_a_server_that_hangs_is_cut() -> None:
    """Its calls end as unavailable, and a new connection is made."""
    async with resp_server(lambda _: b"") as server, _connected(server) as store:
        call = store.call("ECHO", "x")
        assert store._pipe is not None
        # Backdating the call stands for waiting until its reply is overdue.
        sent_at_s, answer = store._pipe.pending[0]
        store._pipe.pending[0] = (sent_at_s - 6, answer)
        with pytest.raises(StoreUnavailable, match="connection lost"):
            await asyncio.wait_for(call, 5)
        server.answer = echo
        await _until(lambda: store.connected)

        assert await store.call("ECHO", "y") == b"y"


async def test_a_server_that_is_not_there_fails_the_start() -> None:
    """Nothing runs without its store."""
    async with resp_server() as server:
        pass
    with pytest.raises(StoreUnavailable):
        await StoreConnection(server.url).start()


async def test_it_introduces_itself_with_password_and_database() -> None:
    """Both from the URL; percent signs are decoded."""
    async with resp_server() as server:
        store = StoreConnection(f"redis://:p%40ss@127.0.0.1:{server.port}/3")
        await store.start()
        await store.stop()

    assert server.commands == [[b"AUTH", b"default", b"p@ss"], [b"SELECT", b"3"]]


def _channel(command: list[bytes]) -> bytes:
    if command[0] == b"SUBSCRIBE":
        return b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(command[1]), command[1])
    return b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"


def _message(body: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$%d\r\n%b\r\n" % (len(body), body)


async def test_a_subscription_hears_its_channel_again_after_a_loss() -> None:
    """And tells its owner of every connection, because messages in between are gone."""
    heard: list[bytes] = []
    catch_ups: list[None] = []
    async with resp_server(_channel) as server:
        subscription = Subscription(server.url, "ch", heard.append, lambda: catch_ups.append(None))
        await subscription.start()
        server.push(_message(b"one") + _message(b"two"))
        await _until(lambda: len(heard) == 2)
        server.cut()
        await _until(lambda: len(catch_ups) == 2)
        server.push(_message(b"three"))
        await _until(lambda: len(heard) == 3)
        await subscription.stop()

    assert heard == [b"one", b"two", b"three"]
    assert [command[0] for command in server.commands] == [b"SUBSCRIBE", b"SUBSCRIBE"]


async def test_a_subscription_that_cannot_begin_says_so() -> None:
    """Ingress does not take requests whose answers it could not hear."""
    async with resp_server() as server:
        pass
    with pytest.raises(StoreUnavailable):
        await Subscription(server.url, "ch", lambda _: None, lambda: None).start()
