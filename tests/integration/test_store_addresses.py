"""A ledger behind Sentinel, behind a login of its own, and behind TLS, on real servers."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from schemas.frames import Frame, Started
from schemas.runtime.ledger.client import ledger_store
from schemas.runtime.valkey import node
from schemas.runtime.valkey.bus import Bus, channel_of
from schemas.runtime.valkey.cold_store import open_cold_store
from schemas.runtime.valkey.store import Store, StoreUnavailable
from schemas.runtime.valkey.subscription import Subscription
from tests.support.harness.certificates import Authority
from tests.support.harness.ledger_server import LedgerServer, free_port, server_binary

_DEBIAN = shutil.which("redis-server")
"""A server that was built with TLS, which the embedded one is not."""
RIGHTS = (
    "~* &* -@all +@read +@write +@scripting +@transaction +@connection +@pubsub "
    "+info +time +role +cluster|slots"
)
"""All that a process of the gateway does on a store."""
_SENTINEL = """\
port {port}
dir {folder}
sentinel monitor ledger 127.0.0.1 {primary} 1
sentinel down-after-milliseconds ledger 300
sentinel failover-timeout ledger 2000
"""


def _ask(port: int, *command: str) -> Any:
    with redis.Redis(port=port, decode_responses=True) as client:
        return client.execute_command(*command)


def _until(condition: Any, within_s: float = 15) -> None:
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            if condition():
                return
        except redis.ConnectionError:
            pass
        if time.monotonic() > deadline_s:
            raise TimeoutError
        time.sleep(0.02)


@contextmanager
def _running(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _server(folder: Path, more: str = "") -> Iterator[LedgerServer]:
    server = LedgerServer(folder, more_settings=more)
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def _uses_everything(url: str) -> None:
    """What processes do on their stores: functions, frames, channels, scans."""
    heard: list[bytes] = []
    ledger, bus = ledger_store(url), Bus(url)
    listening = Subscription(url, channel_of("ingress-0"), heard.append, lambda: None)
    await asyncio.gather(ledger.start(), bus.start(), listening.start())
    await bus.send(Frame("r", 1, 1, Started("echo", ())), channel_of("ingress-0"))
    await ledger.call("EVAL", "return redis.call('HSET', KEYS[1], 'a', 1)", 1, "{cfg}applied")
    assert [frame.request_id for frame in await bus.read("r", "0-0")] == ["r"]
    async with asyncio.timeout(5):
        while not heard:  # noqa: ASYNC110  # the subscription announces nothing
            await asyncio.sleep(0.01)
    assert await ledger.call_each("INFO", "memory")
    assert await ledger.call("TIME")
    async with open_cold_store(url) as cold:
        assert b"rep:r" in [name async for name in cold.scan_iter()]
    await asyncio.gather(ledger.stop(), bus.stop(), listening.stop())


async def _answers(store: Store, *command: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            try:
                return await store.call(*command)
            except StoreUnavailable:
                await asyncio.sleep(0.02)


async def test_a_login_of_its_own_needs_no_more_than_its_rights(tmp_path: Path) -> None:
    """What administrators are given as the list of them is all."""
    with _server(tmp_path) as server:
        _ask(server.port, "ACL", "SETUSER", "tallygate", "on", ">s3cret", *RIGHTS.split())
        at = f"127.0.0.1:{server.port}"
        await _uses_everything(f"redis://tallygate:s3cret@{at}/0")
        stranger = ledger_store(f"redis://tallygate:wrong@{at}/0")
        with pytest.raises(StoreUnavailable, match="WRONGPASS"):
            await stranger.start()

        assert stranger.trouble.startswith("WRONGPASS")


async def test_whom_sentinels_promote_is_found(tmp_path: Path) -> None:
    """What was asked of the dead one is unavailable, and later calls are answered by the next."""
    with (
        _server(tmp_path / "first", "repl-diskless-sync-delay 0\n") as first,
        _server(tmp_path / "second", f"replicaof 127.0.0.1 {first.port}\n") as second,
    ):
        port, folder = free_port(), tmp_path / "sentinel"
        folder.mkdir()
        text = _SENTINEL.format(port=port, folder=folder, primary=first.port)
        (folder / "sentinel.conf").write_text(text)
        with _running(server_binary(), folder / "sentinel.conf", "--sentinel"):
            slaves = ("SENTINEL", "REPLICAS", "ledger")
            await asyncio.to_thread(_until, lambda: len(_ask(port, *slaves)) == 1)
            url = f"redis+sentinel://127.0.0.1:{port}/ledger"
            await _uses_everything(url)
            store = ledger_store(url)
            await store.start()
            await store.call("SET", "k", "v")
            assert await store.call("WAIT", 1, 3_000) == 1
            first.kill()
            with pytest.raises(StoreUnavailable):
                await store.call("GET", "k")
            await _answers(store, "SET", "k", "after")

            assert _ask(second.port, "GET", "k") == "after"
            await store.stop()


@pytest.mark.skipif(_DEBIAN is None, reason="no redis-server that was built with TLS")
async def test_all_of_it_works_over_tls(tmp_path: Path) -> None:
    """With a client's certificate, which the server demands."""
    ours = Authority(tmp_path, "ours")
    theirs, mine = ours.vouch("server"), ours.vouch("me")
    port = free_port()
    words = ["--port", "0", "--tls-port", str(port), "--dir", str(tmp_path), "--save", ""]
    words += ["--tls-cert-file", str(theirs.certificate), "--tls-key-file", str(theirs.key)]
    words += ["--tls-ca-cert-file", str(ours.pair.certificate), "--bind", "127.0.0.1"]
    files = f"ssl_certfile={mine.certificate}&ssl_keyfile={mine.key}"
    url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={ours.pair.certificate}&{files}"
    with _running(str(_DEBIAN), *words):
        store = ledger_store(url)
        async with asyncio.timeout(10):
            while not store.connected:
                try:
                    await store.start()
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
        await store.stop()
        await _uses_everything(url)


class _Proxy:
    """A port that stays the same; whoever connects reaches the server of then, and stays there."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def listen(self) -> asyncio.Server:
        """Take connections."""
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers += (ours, writer)
        await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


async def test_a_connection_is_not_kept_to_a_server_that_its_address_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old server goes on answering: only a new connection is led to the other one, and meets it."""
    monkeypatch.setattr(node, "_LOOK_EVERY_S", 0.05)
    first, second = LedgerServer(tmp_path / "first"), LedgerServer(tmp_path / "second")
    first.start()
    second.start()
    proxy = _Proxy(first.port)
    server = await proxy.listen()
    store = ledger_store(f"redis://127.0.0.1:{proxy.port}/0")
    try:
        await store.start()
        _ask(first.port, "SET", "{0}|who", "first")
        _ask(second.port, "SET", "{0}|who", "second")
        await asyncio.sleep(0.6)
        assert store.connections == 1, "nothing moved, and it was left"
        proxy.target = second.port
        async with asyncio.timeout(10):
            while await _who(store) != b"second":  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.02)
    finally:
        await store.stop()
        server.close()
        for writer in proxy.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        first.kill()
        second.kill()


async def _who(store: Store) -> bytes:
    try:
        return bytes(await store.call("GET", "{0}|who"))
    except StoreUnavailable:
        return b""
