"""What an exchange writes, beside what uvicorn writes for the same messages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from ingress.http.exchange import BODY_FOLLOWS, Exchange
from ingress.http.unframed import unframed

_LENGTH = (b"Content-Length", b"5")
_MEBIBYTE = b"m" * 1024 * 1024


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def resume_reading(self) -> None:
        pass


def _start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def _body(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


_STREAM = (_body(b"a", more=True), _body(b"", more=True), _body(b"b" * 300, more=True), _body(b""))
_ANSWERS = {
    "whole": (_start(200, _LENGTH), _body(b"hello")),
    "in parts": (_start(200, _LENGTH), _body(b"he", more=True), _body(b"llo")),
    "empty": (_start(200, (b"content-length", b"0")), _body(b"")),
    "large": (_start(200, (b"content-length", b"%d" % len(_MEBIBYTE))), _body(_MEBIBYTE)),
    "chunked": (_start(200, (b"X-Two", b"a"), (b"x-two", b"b")), *_STREAM),
    "chunked as said": (_start(200, (b"transfer-encoding", b"Chunked")), *_STREAM),
    "length and chunks": (_start(200, _LENGTH, (b"transfer-encoding", b"chunked")), *_STREAM),
    "other coding": (_start(200, _LENGTH, (b"transfer-encoding", b"gzip")), _body(b"hello")),
    "chunked and ended": (_start(200), _body(b"last")),
    "no content": (_start(204), _body(b"")),
    "not modified": (_start(304), _body(b"")),
    "closing": (_start(503, _LENGTH, (b"Connection", b"Keep, CLOSE ")), _body(b"hello")),
    "staying": (_start(200, _LENGTH, (b"connection", b"keep-alive")), _body(b"hello")),
    "unknown status": (_start(599, _LENGTH), _body(b"hello")),
    "no headers": ({"type": "http.response.start", "status": 200}, _body(b"")),
    "obs-text": (_start(200, _LENGTH, (b"x", b"\xe4\tb")), _body(b"hello")),
    "bad name": (_start(200, (b"a b", b"c"), _LENGTH), _body(b"hello")),
    "bad value": (_start(200, _LENGTH, (b"a", b"b\r\nc: d")), _body(b"hello")),
    "too long": (_start(200, _LENGTH), _body(b"hello, world")),
    "too short": (_start(200, _LENGTH), _body(b"he")),
    "body first": (_body(b"hello"),),
    "start twice": (_start(200, _LENGTH), _start(200, _LENGTH)),
    "after the end": (_start(200, _LENGTH), _body(b"hello"), _body(b"more")),
}


async def _sent(
    kind: type[RequestResponseCycle],
    messages: tuple[dict[str, Any], ...],
    method: str = "POST",
    version: str = "1.1",
    *,
    keep_alive: bool = True,
) -> tuple[list[bytes], object]:
    """The writes, and all else that can be told apart of how it ended."""
    transport, ends = _Transport(), []
    cycle = kind(
        scope={"type": "http", "method": method, "http_version": version},  # type: ignore[typeddict-item]
        transport=transport,
        flow=FlowControl(transport),
        logger=None,  # type: ignore[arg-type]
        access_logger=None,  # type: ignore[arg-type]
        access_log=False,
        default_headers=[(b"Vary", b"origin")],
        message_event=asyncio.Event(),
        expect_100_continue=True,
        keep_alive=keep_alive,
        on_response=lambda: ends.append(True),
    )

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    error = None
    try:
        await (unframed(app, cycle) if version == "1.0" else app)(None, None, cycle.send)  # type: ignore[arg-type]
    except RuntimeError as raised:
        error = type(raised)
    state = (cycle.keep_alive, cycle.response_started, cycle.response_complete)
    waits = (cycle.waiting_for_100_continue, cycle.message_event.is_set(), ends)
    return transport.writes, (error, transport.is_closed, state, waits)


@pytest.mark.parametrize("answer", _ANSWERS)
async def test_the_bytes_and_what_follows_are_those_of_uvicorn(answer: str) -> None:
    for method in ("POST", "HEAD"):
        for version, keep_alive in (("1.1", True), ("1.1", False), ("1.0", False)):
            asked = (_ANSWERS[answer], method, version)
            ours, our_end = await _sent(Exchange, *asked, keep_alive=keep_alive)
            theirs, their_end = await _sent(RequestResponseCycle, *asked, keep_alive=keep_alive)
            assert b"".join(ours) == b"".join(theirs)
            assert our_end == their_end


@pytest.mark.parametrize("answer", ["whole", "in parts", "empty", "chunked", "no content"])
async def test_a_head_whose_body_follows_leaves_with_it(answer: str) -> None:
    """With the same bytes; one write less."""
    start, *rest = _ANSWERS[answer]
    apart, end = await _sent(Exchange, (start, *rest))
    together, same_end = await _sent(Exchange, ({**start, BODY_FOLLOWS: True}, *rest))

    assert b"".join(together) == b"".join(apart)
    assert end == same_end
    assert together[0].startswith(apart[0] + (apart[1] if len(apart) > 1 else b""))


async def test_a_large_body_is_not_copied_behind_its_head() -> None:
    start, *rest = _ANSWERS["large"]
    (head, body), _ = await _sent(Exchange, ({**start, BODY_FOLLOWS: True}, *rest))

    assert head.endswith(b"\r\n\r\n")
    assert body == _MEBIBYTE
