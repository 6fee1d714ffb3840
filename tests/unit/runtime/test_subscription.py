"""A subscription hears its channel as long as anybody serves it, whatever else comes."""

from __future__ import annotations

import asyncio

import pytest

from schemas.runtime.valkey.store import StoreUnavailable
from schemas.runtime.valkey.subscription import Subscription
from tests.support.waiting import until
from tests.unit.runtime.resp_server import GARBAGE, resp_server


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
        await until(lambda: len(heard) == 2)
        server.cut()
        await until(lambda: len(catch_ups) == 2)
        server.push(_message(b"three"))
        await until(lambda: len(heard) == 3)
        await subscription.stop()

    assert heard == [b"one", b"two", b"three"]
    assert [command[0] for command in server.commands] == [b"SUBSCRIBE", b"SUBSCRIBE"]


@pytest.mark.parametrize("sent", [*GARBAGE[:5], b"*0\r\n*1\r\n$7\r\nmessage\r\n:5\r\n-ERR\r\n"])
async def test_a_subscription_survives_garbage(sent: bytes) -> None:
    """It hears what comes after, on this connection or the next."""
    heard: list[bytes] = []
    async with resp_server(_channel) as server:
        subscription = Subscription(server.url, "ch", heard.append, lambda: None)
        await subscription.start()
        server.push(sent)
        await asyncio.sleep(0.05)
        await until(lambda: subscription.subscribed)
        server.push(_message(b"after"))
        await until(lambda: heard == [b"after"])
        await subscription.stop()


async def test_a_message_that_its_reader_trips_over_costs_no_other() -> None:
    """Anybody may publish on a channel."""
    heard: list[bytes] = []

    def on_message(body: bytes) -> None:
        if body == b"bad":
            raise ValueError(body)
        heard.append(body)

    async with resp_server(_channel) as server:
        subscription = Subscription(server.url, "ch", on_message, lambda: None)
        await subscription.start()
        server.push(_message(b"bad") + _message(b"good"))
        await until(lambda: heard == [b"good"])
        await subscription.stop()

    assert len(server.commands) == 1


async def test_a_subscription_that_cannot_begin_says_so() -> None:
    """Ingress does not take requests whose answers it could not hear."""
    async with resp_server() as server:
        pass
    with pytest.raises(StoreUnavailable):
        await Subscription(server.url, "ch", lambda _: None, lambda: None).start()


async def test_a_subscription_that_is_refused_says_so_at_once() -> None:
    """Not after a timeout, and in the server's words."""
    async with resp_server(lambda _: b"-NOAUTH who are you\r\n") as server:
        with pytest.raises(StoreUnavailable, match="NOAUTH"):
            await Subscription(server.url, "ch", lambda _: None, lambda: None).start()
