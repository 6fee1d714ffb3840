"""The short way to an operation, beside the long one through the framework's router."""

from __future__ import annotations

import re

import pytest

from schemas.frames import Chunk, Started, Terminal
from schemas.operations import OPERATIONS
from tests.support.configuration import SECRET
from tests.support.gateway import Gateway
from tests.unit.ingress.raw_http import serving

_CHAT = "/v1/chat/completions"
_BODY = b'{"model": "echo", "messages": [{"role": "user", "content": "hi"}]}'
_ORIGIN = "https://app.example"
_OWN = re.compile(rb"[0-9a-f]{8}-[0-9a-f-]{27}|\r\n(?:date|openai-processing-ms): [^\r]+")
"""What no two answers share."""
_TARGETS = (
    *(row.path for row in OPERATIONS.values()),
    f"{_CHAT}/", f"/{_CHAT}", f"{_CHAT}?a=b", f"{_CHAT}?", f"{_CHAT}#a", f"{_CHAT};a", f"{_CHAT}%0A", f"{_CHAT}%0A%0A",
    "/v1/ch%61t/completions", "/v1%2Fchat/completions", "/v1/chat/../chat/completions", "/V1/chat/completions",
    f"{_CHAT}%20", f"{_CHAT}%C3%A4", f"{_CHAT}%FF", f"http://gate{_CHAT}", f"http://gate{_CHAT}?a", "/", "//", "*", "/v1",
    "/v1/models", "/healthz",
)  # fmt: skip
_METHODS = ("POST", "GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "QUERY")
_STREAM = (Started("b1", ()), Chunk(b"data: 1\n\n"), Terminal(200))


async def _answers(app: object, requests: list[bytes]) -> list[bytes]:
    async with serving(app, origins=_ORIGIN) as served:
        return [_OWN.sub(b"", await served.say(raw)) for raw in requests]


def _request(method: str, target: str, body: bytes = _BODY, *more: str) -> bytes:
    lines = (
        f"{method} {target} HTTP/1.1", "Host: gate", "Connection: close", f"X-API-Key: {SECRET}",
        "Content-Type: application/json", f"Content-Length: {len(body)}", *more,
    )  # fmt: skip
    return "\r\n".join((*lines, "", "")).encode() + body


async def _assert_both_ways_answer_alike(gateway: Gateway, requests: list[bytes]) -> list[bytes]:
    short = await _answers(gateway.app, requests)
    assert short == await _answers(gateway.app.others, requests)
    return short


@pytest.mark.parametrize("method", _METHODS)
async def test_any_method_on_any_path_is_answered_alike(method: str) -> None:
    """Slashes, queries, escapes, absolute targets, and what is not allowed with what is."""
    preflight = (f"Origin: {_ORIGIN}", "Access-Control-Request-Method: POST")
    requests = [_request(method, target) for target in _TARGETS]
    requests += [
        _request(method, _CHAT, b"", *preflight),
        _request(method, _CHAT, b"", preflight[0]),
    ]

    answers = await _assert_both_ways_answer_alike(Gateway(), requests)

    if method == "GET":
        assert b"405 Method Not Allowed" in answers[0]
        assert b"\r\nallow: POST\r\n" in answers[0]
    if method == "POST":
        assert b"404 Not Found" in answers[_TARGETS.index(f"{_CHAT}/")]


async def test_streams_and_refusals_are_answered_alike() -> None:
    """And what is no request at all."""
    stream = _BODY[:-1] + b', "stream": true}'
    requests = [
        _request("POST", _CHAT, stream),
        _request("POST", _CHAT, b"{"),
        _request("POST", _CHAT, _BODY, "X-Request-Timeout: never"),
        _request("POST", _CHAT, _BODY, "Content-Encoding: gzip"),
        _request("POST", _CHAT, _BODY, f"Origin: {_ORIGIN}"),
        _request("POST", _CHAT).replace(SECRET.encode(), b"tg_live_x"),
    ]
    gateway = Gateway()
    gateway.log.worker = lambda accepted: _STREAM if accepted.stream else (Terminal(200),)

    await _assert_both_ways_answer_alike(gateway, requests)


async def test_a_defect_is_answered_alike_before_and_behind_the_head() -> None:
    """With the typed error of its surface, or with the end of the connection."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(200, body=b"{}", backend="bad\r\nname"),)
    broken = Gateway()
    broken.log.send = None  # type: ignore[assignment]

    for each in (gateway, broken):
        await _assert_both_ways_answer_alike(each, [_request("POST", _CHAT)])


async def test_both_ways_are_counted_once() -> None:
    gateway = Gateway()

    await _answers(gateway.app, [_request("POST", _CHAT), _request("GET", _CHAT)])

    counted = [line for line in gateway.metrics.page().splitlines() if b"requests_total{" in line]
    assert sorted(line.split(b"{")[1] for line in counted) == [
        b'code="",operation="chat.completions",status="200"} 1.0',
        b'code="method_not_allowed",operation="chat.completions",status="405"} 1.0',
    ]
