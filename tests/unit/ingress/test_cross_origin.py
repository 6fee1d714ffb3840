"""What browsers are told, over real sockets. Source: the CORS protocol of the Fetch standard, section 3.3."""

from __future__ import annotations

import json

import pytest

from ingress.apis.answer_format import rate_headers
from ingress.http.cross_origin import origin_headers, preflight_headers, read_origins
from schemas.events import RateStatus
from schemas.frames import Chunk, Started, Terminal, Usage
from tests.support.configuration import SECRET
from tests.support.gateway import Gateway
from tests.unit.ingress.raw_http import HEAD, serving

_PAGE = "http://localhost:5173"
_ORIGINS = f"https://chat.example.com, {_PAGE}"
_FROM_PAGE = f"Origin: {_PAGE}\r\n"
_FROM_ELSEWHERE = "Origin: https://elsewhere.example.com\r\n"
_ALLOWED = "access-control-allow-origin"


def _read(answer: bytes) -> tuple[int, dict[str, str]]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers = [line.partition(": ")[::2] for line in lines[1:]]
    assert len(dict(headers)) == len(headers), "a header came twice"
    return int(lines[0].split(" ")[1]), dict(headers)


def _preflight(origin: str, asked: str = "authorization,content-type") -> bytes:
    return (
        f"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n{origin}"
        f"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: {asked}\r\n\r\n"
    ).encode()


def _ask(origin: str, *, stream: bool = False, key: str = SECRET) -> bytes:
    fields = {"model": "echo", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps(fields)
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n{origin}"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _gateway(origins: str = _ORIGINS) -> Gateway:
    gateway = Gateway(cors_origins=origins)
    usage = Usage(5, 7, 12_000, estimated=False)
    rates = (RateStatus(id="org:requests_per_s", limit=20, remaining=3, reset_ms=1_700),)
    gateway.log.worker = lambda accepted: (
        (Started("b1", rates), Chunk(b"data: 1\n\n"), Terminal(200))
        if accepted.stream
        else (Terminal(200, body=b"{}", backend="b1", usage=usage, rates=rates),)
    )
    return gateway


async def test_a_preflight_of_a_configured_origin_is_answered_204() -> None:
    async with serving(_gateway().app, origins=_ORIGINS) as served:
        status, headers = _read(await served.say(_preflight(_FROM_PAGE)))

    allowed = set(headers["access-control-allow-headers"].split(", "))
    assert status == 204
    assert headers[_ALLOWED] == _PAGE
    assert headers["vary"] == "origin"
    assert {"GET", "POST", "DELETE"} == set(headers["access-control-allow-methods"].split(", "))
    assert {"authorization", "content-type", "idempotency-key", "x-request-timeout"} <= allowed
    assert int(headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize("configured", ["", _ORIGINS])
async def test_other_origins_and_all_without_the_setting_are_told_nothing(configured: str) -> None:
    async with serving(_gateway(configured).app, origins=configured) as served:
        preflight = _read(await served.say(_preflight(_FROM_ELSEWHERE)))
        answer = _read(await served.say(_ask(_FROM_ELSEWHERE)))

    assert (preflight[0], answer[0]) == (405, 200)
    for _, headers in (preflight, answer):
        assert not [name for name in headers if name.startswith("access-control-")]
        assert ("vary" in headers) is bool(configured)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (_ask(_FROM_PAGE), 200),
        (_ask(_FROM_PAGE, stream=True), 200),
        (_ask(_FROM_PAGE, key="no-such-key"), 401),
        (_ask(_FROM_PAGE).replace(b"chat/completions", b"nothing/there"), 404),
        (_ask(_FROM_PAGE).replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
        (HEAD + _FROM_PAGE.encode() + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (HEAD + _FROM_PAGE.encode() + b"X: " + b"a" * (17 * 1024), 431),
    ],
)
async def test_every_answer_may_be_read_by_the_page_that_asked(raw: bytes, expected: int) -> None:
    """Also those that are refused before there is a route."""
    async with serving(_gateway().app, origins=_ORIGINS) as served:
        status, headers = _read(await served.say(raw))

    assert (status, headers[_ALLOWED], headers["vary"]) == (expected, _PAGE, "origin")


async def test_a_page_may_read_whatever_header_of_ours_an_answer_has() -> None:
    """Beside those that every page may read, and those that only browsers and proxies read."""
    gateway = _gateway()
    seen: dict[str, str] = {}
    async with serving(gateway.app, origins=_ORIGINS) as served:
        for stream in (False, True):
            _, headers = _read(await served.say(_ask(_FROM_PAGE, stream=stream)))
            seen |= headers
    rates = (RateStatus(id="org:tokens_per_min", limit=9, remaining=3, reset_ms=1_700),)
    seen |= {name.decode(): "" for name, _ in rate_headers(rates)}
    exposed = set(seen["access-control-expose-headers"].split(", "))
    framing = {"date", "connection", "transfer-encoding", "vary", "x-accel-buffering"}
    always = {"content-type", "content-length", "cache-control"}
    ours = {name for name in seen if not name.startswith("access-control-")} - framing - always
    assert {"x-request-id", "x-tallygate-backend", "x-ratelimit-limit-requests"} <= ours
    assert ours | {"retry-after"} <= exposed


async def test_who_names_no_origin_is_told_only_that_answers_differ() -> None:
    async with serving(_gateway().app, origins=_ORIGINS) as served:
        status, headers = _read(await served.say(_ask("")))

    assert (status, headers["vary"]) == (200, "origin")
    assert not [name for name in headers if name.startswith("access-control-")]


async def test_the_origin_of_one_request_is_not_that_of_the_next_on_its_connection() -> None:
    keep = _ask(_FROM_PAGE).replace(b"Connection: close\r\n", b"")
    async with serving(_gateway().app, origins=_ORIGINS) as served:
        first, second = (await served.say(keep + _ask(""))).split(b"HTTP/1.1 ")[1:]

    assert _ALLOWED.encode() in first
    assert _ALLOWED.encode() not in second


@pytest.mark.parametrize(
    "origin",
    [b"null", b"*", b"http://LOCALHOST:5173", b"http://localhost:5173/", b"http://localhost", b""],
)
def test_an_origin_matches_exactly_or_not(origin: bytes) -> None:
    assert origin_headers(read_origins(_ORIGINS), [(b"origin", origin)]) == []


@pytest.mark.parametrize(
    "listed",
    ["*", "null", "https://*.example.com", "https://a/", "https://A", "a.example", "https://a b"],
)
def test_what_no_browser_sends_is_refused_at_the_start(listed: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        Gateway(cors_origins=f"https://ok.example,{listed}")


@pytest.mark.parametrize(
    ("asked", "is_echoed"),
    [(b"x-stainless-os,x-stainless-lang", True), (b"a b", False), (b"*", False), (b"a\tb", False)],
)
def test_headers_of_sdks_may_be_sent_and_a_wildcard_is_never_said(
    asked: bytes, *, is_echoed: bool
) -> None:
    said = [
        (b"origin", _PAGE.encode()),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", asked),
    ]
    told = preflight_headers(read_origins(_ORIGINS), said)
    assert told is not None
    assert (asked in dict(told)[b"access-control-allow-headers"]) is is_echoed


def test_options_without_the_question_is_no_preflight() -> None:
    assert preflight_headers(read_origins(_ORIGINS), [(b"origin", _PAGE.encode())]) is None
