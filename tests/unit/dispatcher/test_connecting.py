"""A backend is found by its name, at whichever of its addresses answers, and has to be who it says it is."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from dispatcher.upstream import connecting
from dispatcher.upstream.connecting import Connecting, Unreachable, tls_context
from dispatcher.upstream.connections import Connection, Connections
from dispatcher.upstream.target import Origin
from tests.support.harness.certificates import Authority

_NOWHERE = "127.0.0.9"


@asynccontextmanager
async def _server(
    host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0, says: bytes = b""
) -> AsyncIterator[int]:
    """A port at which connections are taken, until their peers leave."""
    under_way = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way
        under_way += 1
        writer.write(says)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        under_way -= 1

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        async with asyncio.timeout(5):
            await asyncio.sleep(0.02)
            while under_way:  # noqa: ASYNC110  # servers of others' streams tell nobody
                await asyncio.sleep(0.01)


def _known(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Names are found at these addresses; what is looked up is noted."""
    asked: list[str] = []

    async def look_up(_: Connecting, origin: Origin) -> deque[Any]:
        asked.append(origin.host)
        await asyncio.sleep(0.02)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return deque(_info(address, origin.port) for address in addresses)

    monkeypatch.setattr(Connecting, "_look_up", look_up)
    return asked


def _info(address: str, port: int) -> tuple[Any, ...]:
    if ipaddress.ip_address(address).version == 6:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


async def _connect(
    made: Connecting, host: str, port: int, *, is_tls: bool = False
) -> tuple[str, int]:
    """Where a connection to the origin arrived."""
    origin = Origin(host, port, is_tls)
    connection = await made.connect(origin, lambda: Connection(origin, lambda _: None))
    assert connection._transport is not None
    peer: tuple[str, int] = connection._transport.get_extra_info("peername")[:2]
    connection.abort()
    await asyncio.sleep(0)
    return peer


async def test_a_name_is_looked_up_once_for_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not again for ten seconds."""
    asked = _known(monkeypatch, "127.0.0.1")
    made = Connecting(tls_context())
    async with _server() as port:
        await asyncio.gather(*(_connect(made, "backend", port) for _ in range(5)))
        await _connect(made, "backend", port)
        assert asked == ["backend"]
        monkeypatch.setattr(connecting, "_KNOWN_S", 0.0)
        made._known.clear()
        for _ in range(2):
            await _connect(made, "backend", port)

    assert asked == ["backend"] * 3


async def test_a_caller_that_leaves_does_not_end_a_look_up_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They share it."""
    asked = _known(monkeypatch, "127.0.0.1")
    made = Connecting(tls_context())
    async with _server() as port:
        leaving = asyncio.create_task(_connect(made, "backend", port))
        staying = asyncio.create_task(_connect(made, "backend", port))
        await asyncio.sleep(0.01)
        leaving.cancel()

        assert await staying == ("127.0.0.1", port)
    assert asked == ["backend"]


async def test_the_addresses_of_a_name_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a backend behind several gets its calls at all of them."""
    _known(monkeypatch, "127.0.0.1", "127.0.0.2")
    made = Connecting(tls_context())
    async with _server("0.0.0.0") as port:
        peers = [(await _connect(made, "backend", port))[0] for _ in range(4)]

    assert peers == ["127.0.0.1", "127.0.0.2"] * 2


@pytest.mark.parametrize("addresses", [(_NOWHERE, "127.0.0.1"), ("::1", "127.0.0.1")])
async def test_an_address_where_nobody_listens_is_passed_over(
    addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either kind."""
    _known(monkeypatch, *addresses)
    async with _server() as port:
        assert await _connect(Connecting(tls_context()), "backend", port) == ("127.0.0.1", port)


async def test_an_address_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RFC 8305: the next one is tried a quarter of a second later, beside it."""
    with socket.socket() as full:
        full.bind((_NOWHERE, 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        _known(monkeypatch, _NOWHERE, "127.0.0.1")
        async with _server(port=port), asyncio.timeout(2):
            peer = await _connect(Connecting(tls_context()), "backend", port)
        for each in waiting:
            each.close()

    assert peer == ("127.0.0.1", port)


async def test_a_name_is_found_by_the_system() -> None:
    """As any program finds it."""
    async with _server() as port:
        assert await _connect(Connecting(tls_context()), "localhost", port) == ("127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_needs_no_look_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv4 and IPv6."""
    asked = _known(monkeypatch)
    async with _server(host) as port:
        assert await _connect(Connecting(tls_context()), host, port) == (host, port)

    assert asked == []


async def test_a_name_that_nobody_knows_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asked for again by the next call."""
    asked = _known(monkeypatch)
    made = Connecting(tls_context())
    for _ in range(2):
        with pytest.raises(Unreachable):
            await _connect(made, "backend", 80)

    assert (asked, made._lookups) == (["backend"] * 2, {})


async def test_a_connection_that_ended_before_its_call_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing was sent."""
    connect = Connecting.connect

    async def too_late(self: Connecting, *arguments: Any) -> Connection:
        made = await connect(self, *arguments)
        made.eof_received()
        return made

    monkeypatch.setattr(Connecting, "connect", too_late)
    async with _server() as port:
        connections = Connections(Connecting(tls_context()))
        with pytest.raises(Unreachable):
            await connections.take(Origin("127.0.0.1", port, False), fresh=False)

    assert connections.busy == 0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Vouches for the server of the tests."""
    return Authority(tmp_path_factory.mktemp("tls"), "authority")


def _tls_server(authority: Authority, names: list[str | None]) -> ssl.SSLContext:
    pair = authority.vouch("backend", "DNS:backend.example", "IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    context.sni_callback = lambda _, name, __: names.append(name)
    return context


@pytest.mark.parametrize(
    ("host", "is_trusted", "connects", "sni"),
    [
        ("backend.example", True, True, "backend.example"),
        ("backend.example.", True, True, "backend.example"),
        ("127.0.0.1", True, True, None),
        ("other.example", True, False, "other.example"),
        ("backend.example", False, False, "backend.example"),
    ],
    ids=["its name", "with a dot", "its address", "another name", "nobody vouches"],
)
async def test_a_certificate_has_to_be_trusted_and_of_the_name(
    host: str,
    is_trusted: bool,
    connects: bool,
    sni: str | None,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name is told in the handshake; an address is not (RFC 6066, 3)."""
    _known(monkeypatch, "127.0.0.1")
    context, names = tls_context.__wrapped__(), list[str | None]()
    if is_trusted:
        context.load_verify_locations(authority.pair.certificate)
    async with _server(tls=_tls_server(authority, names)) as port:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        try:
            peer = await _connect(Connecting(context), host, port, is_tls=True)
        except Unreachable:
            peer = None
        await asyncio.sleep(0.02)

    assert (peer is not None, names) == (connects, [sni])


async def test_plain_text_behind_an_https_url_is_unreachable() -> None:
    """Nothing of the call was sent."""
    async with _server(says=b"HTTP/1.1 400 x\r\n\r\n") as port:
        with pytest.raises(Unreachable):
            await _connect(Connecting(tls_context()), "127.0.0.1", port, is_tls=True)
