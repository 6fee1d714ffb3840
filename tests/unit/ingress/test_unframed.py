"""HTTP/1.0 clients (`ab`, nginx towards its upstreams, old proxies) over real sockets. RFC 9112, section 6.1."""

from __future__ import annotations

import json

import pytest
from starlette.types import Receive, Scope, Send

from schemas.frames import Chunk, Started, Terminal
from tests.support.configuration import SECRET
from tests.support.events_told import without_ids
from tests.support.gateway import Gateway
from tests.unit.ingress.raw_http import Echo, serving

_EVENTS = (b"data: 1\n\n", b"data: 2\n\n")
_CHUNKS = (Started("b1", ()), Chunk(_EVENTS[0]), Chunk(_EVENTS[1]), Terminal(200))
_OLD = b"POST /v1/chat/completions HTTP/1.0\r\n"


def _ask(version: str, *, stream: bool) -> bytes:
    fields = {"model": "echo", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps(fields).encode()
    head = (
        f"POST /v1/chat/completions HTTP/{version}\r\nHost: gate\r\nAuthorization: bEaReR {SECRET}\r\n"
        f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _stream(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for event in (*_EVENTS, b""):
        await send({"type": "http.response.body", "body": event, "more_body": bool(event)})


def _parts(answer: bytes) -> tuple[bytes, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.lower(), body


async def test_a_stream_is_the_same_bytes_with_chunks_and_without() -> None:
    gateway = Gateway()
    gateway.log.worker = lambda _: _CHUNKS
    async with serving(gateway.app) as served:
        old, plain = _parts(await served.say(_ask("1.0", stream=True)))
        new, chunked = _parts(await served.say(_ask("1.1", stream=True)))

    assert b"transfer-encoding" not in old
    assert b"content-length" not in old
    assert b"connection: close" in old
    assert b"transfer-encoding: chunked" in new
    assert without_ids(plain).startswith(b"".join(_EVENTS))
    assert without_ids(plain) == without_ids(b"".join(chunked.split(b"\r\n")[1:-3:2]))


async def test_json_keeps_its_length() -> None:
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(200, body=b'{"id": "c"}'),)
    async with serving(gateway.app) as served:
        head, body = _parts(await served.say(_ask("1.0", stream=False)))

    assert b"\r\ncontent-length: 11" in head
    assert b"transfer-encoding" not in head
    assert body == b'{"id": "c"}'


@pytest.mark.parametrize("asked", [b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n"])
async def test_the_connection_ends_with_the_answer_whatever_was_asked(asked: bytes) -> None:
    async with serving(_stream) as served:
        head, body = _parts(await served.say(_OLD + asked + b"\r\n"))

    assert b"connection: close" in head
    assert body == b"".join(_EVENTS)


async def test_an_old_client_is_never_told_to_continue() -> None:
    """RFC 9110, section 10.1.1. Its body comes anyway, and its connection ends all the same."""
    echo = Echo()
    asked = b"Expect: 100-continue\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc"
    async with serving(echo) as served:
        answer = await served.say(_OLD + asked)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert echo.bodies == [b"abc"]


async def test_head_has_no_body_and_no_chunks() -> None:
    async with serving(_stream) as served:
        head, body = _parts(await served.say(b"HEAD / HTTP/1.0\r\n\r\n"))

    assert b"transfer-encoding" not in head
    assert body == b""
