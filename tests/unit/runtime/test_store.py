"""The store connection against a server that misbehaves on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from schemas.runtime.valkey.node import NodeConnection
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.store import (
    NodeView,
    OnConnect,
    StoreError,
    StoreUnavailable,
    text_pairs,
)
from schemas.runtime.valkey.wire import pause_s
from tests.support.waiting import until
from tests.unit.runtime.resp_server import GARBAGE, RespServer, echo, resp_server


def _connection(url: str, on_connect: OnConnect | None = None) -> NodeConnection:
    store = open_store(url, on_connect)
    assert isinstance(store, NodeConnection)
    return store


@asynccontextmanager
async def _connected(server: RespServer) -> AsyncIterator[NodeConnection]:
    store = _connection(server.url)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


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
        await until(lambda: bool(server.commands))
        server.cut()

        with pytest.raises(StoreUnavailable, match="connection lost"):
            await call


async def test_calls_fail_at_once_while_the_server_is_away() -> None:
    """Callers decide how long to wait, not the connection."""
    async with resp_server() as server, _connected(server) as store:
        await server.go_away()
        await until(lambda: not store.connected)
        call = store.call("ECHO", "x")

        assert call.done()
        with pytest.raises(StoreUnavailable, match="not connected"):
            await call


async def test_it_reconnects_by_itself() -> None:
    """Also after several failures."""
    async with resp_server() as server, _connected(server) as store:
        await server.go_away()
        await until(lambda: not store.connected)
        await asyncio.sleep(0.1)
        await server.come_back()
        await until(lambda: store.connected)

        assert await store.call("ECHO", "again") == b"again"


async def test_on_connect_runs_on_every_connection_before_anything_else() -> None:
    """Functions are loaded there, because they vanish with the data of a store."""

    async def load(node: NodeView) -> None:
        await node.send("FUNCTION", "LOAD")

    async with resp_server() as server:
        store = _connection(server.url, load)
        await store.start()
        await store.call("ECHO", "1")
        server.cut()
        await until(lambda: len(server.commands) > 2 and store.connected)
        await store.call("ECHO", "2")
        await store.stop()

    assert [command[0] for command in server.commands] == [b"FUNCTION", b"ECHO"] * 2


async def test_nobody_else_gets_in_while_on_connect_fails() -> None:
    """A store without its functions is no store."""

    def answer(command: list[bytes]) -> bytes:
        return b"-ERR cannot load\r\n" if command[0] == b"FUNCTION" else echo(command)

    async def load(node: NodeView) -> None:
        await node.send("FUNCTION", "LOAD")

    async with resp_server(answer) as server:
        store = _connection(server.url, load)
        with pytest.raises(StoreUnavailable, match="cannot load"):
            await store.start()
        with pytest.raises(StoreUnavailable):
            await store.call("ECHO", "1")
        await store.stop()


async def test_nobody_gets_in_before_the_introduction_is_over() -> None:
    """A command before AUTH and SELECT would be refused, or meet the wrong database."""
    async with resp_server(lambda _: b"") as server:
        store = _connection(f"redis://:secret@127.0.0.1:{server.port}/3")
        starting = asyncio.create_task(store.start())
        await until(lambda: bool(server.commands))
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
        store._pipe.pending[0].sent_at_s -= 6
        with pytest.raises(StoreUnavailable, match="connection lost"):
            await asyncio.wait_for(call, 5)
        server.answer = echo
        await until(lambda: store.connected)

        assert await store.call("ECHO", "y") == b"y"


@pytest.mark.parametrize("sent", GARBAGE)
async def test_a_server_that_talks_garbage_is_left_and_found_again(sent: bytes) -> None:
    """What was under way ends as unavailable, whatever the bytes, and a new connection works."""
    async with resp_server(lambda _: b"") as server, _connected(server) as store:
        calls = [store.call("ECHO", "x"), store.call("ECHO", "y"), store.call("ECHO", "z")]
        await until(lambda: bool(server.commands))
        server.answer = echo
        server.push(sent * 2)
        ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 2)
        await until(lambda: store.connected)

        assert isinstance(ended[-1], StoreUnavailable) or ended[-1] == b"OK"
        assert await store.call("ECHO", "z") == b"z"


async def test_a_reply_nobody_asked_for_breaks_the_connection_and_not_the_process() -> None:
    """An idle connection notices too, before a command gets the reply of another."""
    async with resp_server() as server, _connected(server) as store:
        first = store._pipe
        server.push(b"+surprise\r\n")
        await until(lambda: store._pipe is not first and store.connected)

        assert await store.call("ECHO", "own") == b"own"


@pytest.mark.parametrize(
    ("sent", "told"),
    [(b"#f\r\n", False), (b"_\r\n", None), (b",1.5\r\n", 1.5), (b"+\xff\r\n", b"\xff")],
)
async def test_a_reply_of_a_strange_type_is_that_of_its_own_command(
    sent: bytes, told: object
) -> None:
    """The next command gets its own."""
    replies = iter((sent, b"+next\r\n"))
    async with resp_server(lambda _: next(replies)) as server, _connected(server) as store:
        assert await store.call("GET", "k") == told
        assert await store.call("GET", "k") == b"next"


async def test_a_reply_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not the server's to fill."""
    monkeypatch.setattr("schemas.runtime.valkey.replies.REPLY_BYTES_MAX", 1_000)
    async with resp_server(lambda _: b"") as server, _connected(server) as store:
        call = store.call("GET", "k")
        await until(lambda: bool(server.commands))
        server.push(b"$1000000000\r\n" + b"x" * 2_000)

        with pytest.raises(StoreUnavailable, match="connection lost"):
            await asyncio.wait_for(call, 2)


async def test_commands_under_way_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs costs this much and no more; replies make room again."""
    monkeypatch.setattr("schemas.runtime.valkey.pipe._PENDING_BYTES_MAX", 1_000)
    async with resp_server() as server, _connected(server) as store:
        large = store.call("ECHO", "x" * 1_000)
        with pytest.raises(StoreUnavailable, match="too much"):
            await store.call("ECHO", "y")
        await large
        assert await store.call("ECHO", "y") == b"y"


def test_what_is_no_text_in_a_hash_is_left_out() -> None:
    """Whoever writes junk beside us hides nothing but its own line."""
    flat = [b"a", b"1", b"\xff", b"2", b"c", 7, 8, b"d", b"odd"]
    assert text_pairs(flat) == {"a": "1"}
    assert text_pairs(None) == text_pairs(b"text") == {}


async def test_a_server_that_is_not_there_fails_the_start() -> None:
    """Nothing runs without its store."""
    async with resp_server() as server:
        pass
    with pytest.raises(StoreUnavailable):
        await _connection(server.url).start()


async def test_it_introduces_itself_with_password_and_database() -> None:
    """Both from the URL; percent signs are decoded."""
    async with resp_server() as server:
        store = _connection(f"redis://:p%40ss@127.0.0.1:{server.port}/3")
        await store.start()
        await store.stop()

    assert server.commands == [[b"AUTH", b"default", b"p@ss"], [b"SELECT", b"3"]]


@pytest.mark.parametrize("code", ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"])
async def test_a_server_that_can_do_nothing_now_is_away(code: str) -> None:
    """It carried nothing out; the connection stays."""
    async with (
        resp_server(lambda _: f"-{code} later\r\n".encode()) as server,
        _connected(server) as store,
    ):
        with pytest.raises(StoreUnavailable, match=code):
            await store.call("SET", "k", "v")
        server.answer = echo

        assert await store.call("ECHO", "k") == b"k"
        assert store.connections == 1


async def test_a_demoted_server_is_left_for_whoever_has_its_name_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names are asked anew for each connection, so a moved endpoint is found."""
    async with resp_server(lambda _: b"-READONLY no\r\n") as old, resp_server() as new:
        loop, at = asyncio.get_running_loop(), [old.port]
        resolve = loop.getaddrinfo

        async def lookup(host: str, port: int, **more: int) -> object:
            assert (host, port) == ("ledger.example", 6379)
            return await resolve("127.0.0.1", at[0], **more)

        monkeypatch.setattr(loop, "getaddrinfo", lookup)
        store = _connection("redis://ledger.example")
        await store.start()
        at[0] = new.port
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await store.call("SET", "k", "v")
        await until(lambda: store.connections == 2)

        assert await store.call("ECHO", "k") == b"k"
        await store.stop()


def test_pauses_between_attempts_grow_and_differ() -> None:
    """Up to a second; who lost a server in the same moment comes back spread over half of that."""
    assert [pause_s(failures, 0.0) for failures in (1, 2, 3, 6, 99)] == [0.05, 0.1, 0.2, 1.0, 1.0]
    assert pause_s(99, 1.0) == 0.5
