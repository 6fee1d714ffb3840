"""TLS to a store: who answers is verified, and who we are is shown where that is asked."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.runtime.valkey.node import NodeConnection
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.store import NodeView, StoreUnavailable
from schemas.runtime.valkey.subscription import Subscription
from tests.support.harness.certificates import Authority, Pair
from tests.unit.runtime.resp_server import echo, resp_server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


def _server_side(pair: Pair, clients: Authority | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.pair.certificate)
    return context


async def _greet(node: NodeView) -> None:
    await node.send("ECHO", "hello")


def _store(url: str) -> NodeConnection:
    store = open_store(url, _greet)
    assert isinstance(store, NodeConnection)
    return store


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # the connection announces nothing
            await asyncio.sleep(0.005)


async def test_a_verified_server_is_talked_to(authority: Authority) -> None:
    """And listened to."""

    def answer(command: list[bytes]) -> bytes:
        is_subscribe = command[0] == b"SUBSCRIBE"
        return b"*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n" if is_subscribe else echo(command)

    tls = _server_side(authority.vouch("server"))
    async with resp_server(answer, tls) as server:
        url = f"{server.url}?ssl_ca_certs={authority.pair.certificate}"
        store = _store(url)
        await store.start()
        subscription = Subscription(url, "ch", lambda _: None, lambda: None)
        await subscription.start()

        assert await store.call("ECHO", "x" * 100_000) == b"x" * 100_000
        assert subscription.subscribed
        await asyncio.gather(store.stop(), subscription.stop())


@pytest.mark.parametrize("case", ["another authority", "another name", "no authority", "no TLS"])
async def test_whoever_cannot_be_verified_gets_nothing(
    authority: Authority, tmp_path: Path, case: str
) -> None:
    """Not even a login; readiness says why."""
    signed_by = Authority(tmp_path, "theirs") if case == "another authority" else authority
    name = "DNS:example.org" if case == "another name" else "IP:127.0.0.1"
    tls = None if case == "no TLS" else _server_side(signed_by.vouch("server", name))
    async with resp_server(tls=tls) as server:
        url = f"rediss://:secret@127.0.0.1:{server.port}"
        if case != "no authority":
            url += f"?ssl_ca_certs={authority.pair.certificate}"
        store = _store(url)
        with pytest.raises(StoreUnavailable):
            await store.start()

        assert server.commands == []
        assert ("certificate verify failed" in store.trouble) is (case != "no TLS")


async def test_a_client_shows_who_it_is(authority: Authority, tmp_path: Path) -> None:
    """A server that asks for it lets nobody else in."""
    mine, theirs = authority.vouch("me"), Authority(tmp_path, "theirs").vouch("them")
    tls = _server_side(authority.vouch("server"), clients=authority)
    async with resp_server(tls=tls) as server:
        url = f"{server.url}?ssl_ca_certs={authority.pair.certificate}"
        for stranger in ("", f"&ssl_certfile={theirs.certificate}&ssl_keyfile={theirs.key}"):
            with pytest.raises(StoreUnavailable):
                await _store(url + stranger).start()
        assert server.commands == []
        store = _store(f"{url}&ssl_certfile={mine.certificate}&ssl_keyfile={mine.key}")
        await store.start()

        assert await store.call("ECHO", "me") == b"me"
        await store.stop()


async def test_renewed_files_are_used_by_the_next_connection(
    authority: Authority, tmp_path: Path
) -> None:
    """Without a restart of the process."""
    known = tmp_path / "known.pem"
    shutil.copy(authority.pair.certificate, known)
    next_one = Authority(tmp_path / "next", "next")
    async with resp_server(tls=_server_side(authority.vouch("server"))) as server:
        store = _store(f"{server.url}?ssl_ca_certs={known}")
        await store.start()
        await server.go_away()
        shutil.copy(next_one.pair.certificate, known)
        server.tls = _server_side(next_one.vouch("server"))
        await server.come_back()
        await _until(lambda: store.connections == 2)
        await store.stop()
