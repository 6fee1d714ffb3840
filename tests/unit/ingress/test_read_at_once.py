"""Bodies that are there with their head, and those that are not."""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.types import Receive, Scope, Send

from ingress.gatekeeper.bodies import at_once, read_body
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from tests.unit.ingress.raw_http import HEAD, Echo, serving

_PARTS = [
    {"type": "http.request", "body": b"ab", "more_body": True},
    {"type": "http.request", "body": b"cd"},
]


class _Client:
    """Sends its messages one after the other, each after a pause."""

    def __init__(self, *messages: dict[str, object], pause_s: float | None = None) -> None:
        self.messages = list(messages)
        self.pause_s = pause_s
        self.asked = 0

    async def receive(self) -> dict[str, object]:
        self.asked += 1
        if self.pause_s is not None:
            await asyncio.sleep(self.pause_s)
        return self.messages.pop(0)


@pytest.mark.parametrize("pause_s", [None, 0.0, 0.01])
async def test_a_body_reads_the_same_however_it_arrives(pause_s: float | None) -> None:
    whole = {"type": "http.request", "body": b"abcd", "more_body": False}
    for messages in ([whole], _PARTS):
        assert await read_body(_Client(*messages, pause_s=pause_s).receive, {}, 4) == b"abcd"
        refused = await read_body(_Client(*messages, pause_s=pause_s).receive, {}, 3)
        assert isinstance(refused, Refusal)
        assert refused.code is ErrorCode.BODY_TOO_LARGE


@pytest.mark.parametrize("pause_s", [None, 0.01])
async def test_a_client_that_leaves_has_sent_no_body(pause_s: float | None) -> None:
    gone = {"type": "http.disconnect"}
    for messages in ([gone], [_PARTS[0], gone]):
        assert await read_body(_Client(*messages, pause_s=pause_s).receive, {}, 4) is None


async def test_what_has_not_come_is_not_lost_by_asking() -> None:
    """An event that was waited for in vain wakes the next one who waits."""
    event = asyncio.Event()

    async def receive() -> dict[str, object]:
        await event.wait()
        return {"type": "http.request", "body": b"late"}

    assert at_once(receive()) is None
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await read_body(receive, {}, 4) == b"late"
    assert at_once(receive()) == {"type": "http.request", "body": b"late"}


async def test_an_error_of_the_connection_is_raised() -> None:
    async def receive() -> dict[str, object]:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await read_body(receive, {}, 4)


async def test_a_body_behind_its_head_is_read_over_a_socket() -> None:
    """After the interim answer that its client waits for, too."""
    for head, interim in (
        (b"", b""),
        (b"Expect: 100-continue\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ):
        async with serving(_Reader()) as served:
            reader, writer = await served.open()
            writer.write(HEAD + head + b"Content-Length: 4\r\n\r\n")
            begun_s = time.monotonic()
            assert await reader.readexactly(len(interim)) == interim
            await asyncio.sleep(0.05)
            for part in (b"ab", b"cd"):
                writer.write(part)
                await asyncio.sleep(0.02)
            assert (await reader.readuntil(b"abcd")).startswith(b"HTTP/1.1 200")
            assert time.monotonic() - begun_s < 3
            writer.close()


class _Reader(Echo):
    """Answers with the body, read as ingress reads it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, dict(scope["headers"]), 100)
        assert isinstance(body, bytes)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
