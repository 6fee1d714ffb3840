"""One message sent to one address: whoever is there, it is a matter of bounded time and bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from dispatcher.webhooks import sending
from dispatcher.webhooks.sending import Answer, Sender
from tests.support.webhook_receiver import webhook_receiver

_LOOPBACK: Final = ("127.0.0.0/8",)
_HEADERS: Final = {"webhook-id": "msg_1"}


def _sender(*private: str) -> Sender:
    return Sender(ssl.create_default_context(), private or _LOOPBACK)


@asynccontextmanager
async def _scripted(answer: bytes, *, hangs: bool = False) -> AsyncIterator[str]:
    """A receiver that says these bytes, and then closes or hangs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if hangs:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_a_message_is_posted_as_it_is() -> None:
    """Path, query, headers and every byte of the body."""
    sender = _sender()
    with webhook_receiver() as receiver:
        answer = await sender.send(f"{receiver.url}/a/b?c=d", _HEADERS, b'{"a": 1}')

        (delivery,) = receiver.deliveries
    assert answer == Answer("status 204", is_taken=True)
    assert (delivery.path, delivery.body, delivery.message_id) == ("/a/b", b'{"a": 1}', "msg_1")
    assert delivery.headers["content-type"] == "application/json"


async def test_a_redirect_is_not_followed() -> None:
    """It is an answer like any other that is no success."""
    with webhook_receiver() as receiver:
        receiver.answer = lambda _: 302
        answer = await _sender().send(f"{receiver.url}/a", _HEADERS, b"{}")

        assert [each.path for each in receiver.deliveries] == ["/a"]
    assert answer == Answer("status 302")


async def test_who_is_gone_is_asked_no_more() -> None:
    """410, as Standard Webhooks has it."""
    with webhook_receiver() as receiver:
        receiver.answer = lambda _: 410

        answer = await _sender().send(receiver.url, _HEADERS, b"{}")
    assert answer == Answer("status 410", is_final=True)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\n", Answer("status 200", is_taken=True)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 A\r\n", Answer("status 202", is_taken=True)),
        (b"HTTP/1.1 102 P\r\n\r\n" * 1_000, Answer("no HTTP there")),
        (b"HTTP/1.1 100 C\r\n" + b"a: b\r\n" * 10_000, Answer("no HTTP there")),
        (b"HTTP/1.1 200 " + b"x" * 100_000, Answer("no HTTP there")),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Answer("no HTTP there")),
        (b"HTTP/1.1 99 No\r\n", Answer("no HTTP there")),
        (b"", Answer("it closed the connection")),
        (b"HTTP/1.1 20", Answer("it closed the connection")),
    ],
    ids=["ok", "interim", "interims", "headers", "line", "ssh", "status", "closed", "cut"],
)
async def test_an_answer_is_its_status_within_bounds(said: bytes, answer: Answer) -> None:
    """Whatever else it is, it costs its own delivery."""
    async with _scripted(said) as url:
        assert await _sender().send(url, _HEADERS, b"{}") == answer


async def test_a_receiver_that_hangs_costs_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then buys no time."""
    monkeypatch.setattr(sending, "SEND_S_MAX", 0.1)
    async with _scripted(b"HTTP/1.1 100 Continue\r\n", hangs=True) as url:
        answer = await asyncio.wait_for(_sender().send(url, _HEADERS, b"{}"), 2)

    assert answer == Answer("no answer in time")


async def test_nobody_there_is_said() -> None:
    """The port was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    answer = await _sender().send(f"http://127.0.0.1:{port}/", _HEADERS, b"{}")

    assert answer == Answer("connection refused")


async def test_no_tls_there_is_said() -> None:
    """Of a receiver that speaks plain HTTP."""
    with webhook_receiver() as receiver:
        url = receiver.url.replace("http://", "https://")
        assert await _sender().send(url, _HEADERS, b"{}") == Answer("no TLS there")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "0.0.0.0"]
)
async def test_an_address_that_is_not_public_is_not_called(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is written; nothing is connected."""
    connected: list[Any] = []
    monkeypatch.setattr(asyncio, "open_connection", lambda *a, **_: connected.append(a))

    answer = await _sender("192.0.2.0/24").send(f"https://{host}/", _HEADERS, b"{}")

    assert (answer.is_taken, answer.is_final) == (False, True)
    assert "no address that webhooks may go to" in answer.said
    assert connected == []


def _resolved(*addresses: str) -> Callable[..., Any]:
    asked = iter([*addresses])
    return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(asked), 0))]


async def test_a_name_is_looked_up_once_and_the_address_that_was_judged_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name whose second answer would be another address (DNS rebinding) gains nothing."""
    with webhook_receiver() as receiver:
        port = receiver.url.rpartition(":")[2]
        monkeypatch.setattr(socket, "getaddrinfo", _resolved("127.0.0.1", "10.0.0.1"))
        answer = await _sender().send(f"http://hooks.example:{port}/", _HEADERS, b"{}")

        assert receiver.deliveries[0].headers["host"] == f"hooks.example:{port}"
    assert answer.is_taken


async def test_a_name_that_leads_into_a_private_network_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it is called."""
    monkeypatch.setattr(socket, "getaddrinfo", _resolved("10.0.0.1"))

    answer = await _sender().send("https://metadata.example/", _HEADERS, b"{}")

    assert answer.is_final
    assert "no address" in answer.said


async def test_a_public_address_is_called_over_tls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told is the organization's own business."""
    monkeypatch.setattr(socket, "getaddrinfo", _resolved("93.184.216.34"))

    answer = await _sender().send("http://hooks.example/", _HEADERS, b"{}")

    assert answer == Answer("webhooks go to public addresses over TLS only", is_final=True)


async def test_a_name_is_looked_up_by_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resolver that hangs has one thread, however many messages wait for it."""
    asked: list[str] = []
    monkeypatch.setattr(sending, "SEND_S_MAX", 0.05)

    def hang(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        time.sleep(0.3)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    sender = _sender()
    sent = [sender.send("https://slow.example/", _HEADERS, b"{}") for _ in range(20)]

    answers = await asyncio.gather(*sent)

    assert {each.said for each in answers} == {"no answer in time"}
    assert asked == ["slow.example"]
    await asyncio.sleep(0.3)
