from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from ingress.http import connections
from tests.unit.ingress.raw_http import HEAD, Echo, serving

_GET = b"GET /v1/models HTTP/1.1\r\nHost: gate\r\n\r\n"
_CLOSE = b"GET /v1/models HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_a_header_larger_than_the_bound_is_answered_431_at_once() -> None:
    async with serving(Echo()) as served:
        begun_s = time.monotonic()
        answer = await served.say(HEAD + b"X: " + b"a" * (17 * 1024))
        assert _status(answer) == 431
        assert time.monotonic() - begun_s < 3
        assert served.refused == [431]
        body = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
        assert body["error"]["code"] == "headers_too_large"


async def test_a_head_in_one_piece_may_have_exactly_the_bound() -> None:
    room = 16 * 1024 - len(HEAD) - 4 - 21
    for length, status in ((room, 200), (room + 32, 431)):
        async with serving(Echo()) as served:
            head = HEAD + b"Connection: close\r\nX: " + b"a" * (length - 23) + b"\r\n\r\n"
            assert _status(await served.say(head)) == status


async def test_a_flood_of_headers_is_answered_431() -> None:
    async with serving(Echo()) as served:
        most = HEAD + b"Connection: close\r\n" + b"a: b\r\n" * 126 + b"\r\n"
        assert _status(await served.say(most)) == 200
        assert _status(await served.say(HEAD + b"a: b\r\n" * 128 + b"\r\n")) == 431


async def test_an_endless_head_of_many_megabytes_never_fills_memory() -> None:
    echo = Echo()
    async with serving(echo) as served:
        _, writer = await served.open()
        writer.write(HEAD + b"X: ")
        sent = 0
        try:
            while sent < 64 * 1024 * 1024:
                writer.write(b"a" * 65536)
                sent += 65536
                await writer.drain()
        except ConnectionError:
            pass
        assert sent <= 64 * 1024 * 1024
        writer.close()
        assert not echo.seen


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Host: other\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET /v1/models HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /v1/models HTTP/0.9\r\nHost: a\r\n\r\n",
        b"GET @evil HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /v1/models HTTP/1.1\nHost: a\n\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        HEAD + b"Content-Length: +3\r\n\r\nabc",
        HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"X: a\r\n b\r\n\r\n",
        HEAD + b"X: a\rb\r\n\r\n",
        HEAD + b"X: a\0b\r\n\r\n",
        HEAD + b"X : a\r\n\r\n",
    ],
)
async def test_what_two_servers_could_read_differently_is_answered_400_and_closed(
    raw: bytes,
) -> None:
    echo = Echo()
    async with serving(echo) as served:
        answer = await served.say(raw)
        assert _status(answer) == 400
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert not echo.bodies


async def test_a_broken_chunk_ends_the_request_with_400() -> None:
    echo = Echo()
    async with serving(echo) as served:
        answer = await served.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n-1\r\n")
        assert _status(answer) == 400
        await asyncio.sleep(0.05)
        assert (echo.disconnects, echo.bodies) == (1, [])


async def test_trailers_never_become_headers() -> None:
    echo = Echo()
    async with serving(echo) as served:
        raw = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        await served.say(raw + b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert echo.bodies == [b"abc"]
        assert b"authorization" not in dict(echo.seen[0]["headers"])


@pytest.mark.parametrize(
    "tail",
    [b"0\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"1;" + b"a" * 40_000, b"0\r\nX: " + b"a" * 40_000],
)
async def test_trailers_and_chunk_extensions_are_bounded(tail: bytes) -> None:
    async with serving(Echo()) as served:
        answer = await served.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + tail)
        assert _status(answer) == 431


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0"])
async def test_an_upgrade_is_ignored_and_the_connection_serves_the_next_request(
    upgrade: bytes,
) -> None:
    echo = Echo()
    async with serving(echo) as served:
        raw = (
            HEAD
            + b"Connection: Upgrade\r\nUpgrade: "
            + upgrade
            + b"\r\nContent-Length: 3\r\n\r\nabc"
        )
        answer = await served.say(raw + _CLOSE)
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert [scope["path"] for scope in echo.seen] == ["/v1/chat/completions", "/v1/models"]
        assert echo.bodies == [b"abc", b""]


async def test_expect_100_continue_gets_its_interim_answer_and_keeps_the_connection() -> None:
    async with serving(Echo()) as served:
        reader, writer = await served.open()
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc" + _CLOSE)
        assert (await reader.read()).count(b"200 OK") == 2
        writer.close()


async def test_a_body_that_was_never_asked_for_is_not_taken_for_a_request() -> None:
    echo = Echo(reads=False)
    async with serving(echo) as served:
        reader, writer = await served.open()
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 300\r\n\r\n")
        answer = await reader.read()
        assert b"connection: close" in answer
        writer.close()


async def test_a_malformed_request_behind_a_good_one_waits_for_its_answer() -> None:
    echo = Echo(pause_s=0.1)
    async with serving(echo) as served:
        answer = await served.say(_GET + b"nonsense\r\n\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert _status(answer) == 200


async def test_a_flood_of_pipelined_requests_is_bounded() -> None:
    echo = Echo(pause_s=0.01)
    async with serving(echo) as served:
        answer = await served.say(_GET * 5_000)
        assert 1 <= answer.count(b"200 OK") <= 40


async def test_every_pipelined_request_within_the_bound_is_answered() -> None:
    async with serving(Echo()) as served:
        answer = await served.say(_GET * 20 + _CLOSE)
        assert answer.count(b"200 OK") == 21


@pytest.mark.parametrize("first", [b"", b"GET /v1/mod", HEAD, b"\r\n"])
async def test_a_head_that_does_not_complete_is_closed_after_its_time(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections._PHASE_WITHIN_S, "head", 0.5)
    async with serving(Echo()) as served:
        begun_s = time.monotonic()
        answer = await served.say(first)
        assert 0.4 < time.monotonic() - begun_s < 3
        assert not answer if not first else _status(answer) == 408


async def test_a_head_that_trickles_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connections._PHASE_WITHIN_S, "head", 0.5)
    async with serving(Echo()) as served:
        reader, writer = await served.open()
        begun_s = time.monotonic()
        writer.write(HEAD)
        while not reader.at_eof() and time.monotonic() - begun_s < 5:
            writer.write(b"a: b\r\n")
            await asyncio.sleep(0.05)
            if reader._buffer:  # type: ignore[attr-defined]
                break
        assert _status(await reader.read()) == 408
        assert time.monotonic() - begun_s < 3
        writer.close()


async def test_an_idle_connection_is_closed_after_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connections._PHASE_WITHIN_S, "idle", 0.5)
    async with serving(Echo()) as served:
        answer = await served.say(_GET)
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITTEN_WITHIN_S", 1.0)
    async with serving(Echo(answer=b"x" * 32 * 1024 * 1024)) as served:
        _, writer = await served.open()
        writer.write(_GET)
        await asyncio.sleep(0.2)
        assert len(served.server.register) == 1
        async with asyncio.timeout(6):
            while len(served.server.register):  # noqa: ASYNC110  # it has no event for it
                await asyncio.sleep(0.05)
        writer.close()


async def test_the_rest_of_a_body_nobody_reads_is_not_read_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connections._PHASE_WITHIN_S, "draining", 0.5)
    async with serving(Echo(reads=False)) as served:
        answer = await served.say(HEAD + b"Content-Length: 1000\r\n\r\nabc")
        assert _status(answer) == 200


async def test_beyond_the_bound_only_health_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = Echo(pause_s=1.0)
    async with serving(echo, most=2) as served:
        busy = [asyncio.create_task(served.say(_CLOSE)) for _ in range(2)]
        await asyncio.sleep(0.2)
        assert _status(await served.say(_CLOSE)) == 503
        health = _CLOSE.replace(b"models", b"status/healthz")
        assert _status(await served.say(health)) == 200
        assert [_status(answer) for answer in await asyncio.gather(*busy)] == [200, 200]


async def test_a_burst_beyond_the_bound_is_refused_to_the_last_connection() -> None:
    """Overload is stated: as many as come in one turn of the loop, at 2 000 a second, are told."""
    async with serving(Echo(pause_s=2.0), most=2) as served:
        busy = [asyncio.create_task(served.say(_CLOSE)) for _ in range(2)]
        await asyncio.sleep(0.2)
        answers = await asyncio.gather(*(served.say(_CLOSE) for _ in range(120)))
        assert [_status(answer) for answer in answers if answer] == [503] * 120
        await asyncio.gather(*busy)


async def test_a_connection_without_a_request_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_GRACE_S", 0.1)
    async with serving(Echo(), most=4) as served:
        silent = [await served.open() for _ in range(4)]
        await asyncio.sleep(0.2)
        assert _status(await served.say(_CLOSE)) == 200
        assert await silent[0][0].read() == b""
        for _, writer in silent:
            writer.close()


async def test_a_client_may_be_refused_again_and_again_on_one_connection() -> None:
    """What is discarded is bounded for each request, not for all that a connection carries."""
    size = 3 * 1024 * 1024
    async with serving(Echo(reads=False)) as served:
        reader, writer = await served.open()
        for _ in range(8):
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
            async with asyncio.timeout(10):
                await reader.readuntil(b"\r\n\r\n0")
                await writer.drain()
        writer.close()


@pytest.mark.parametrize(
    "target", [b"/v1/jobs?", b"/v1/%6aobs?b=%20&a", b"http://gate/v1/jobs?x", b"/v1/jobs?a?b"]
)
async def test_the_target_is_told_as_it_was_sent(target: bytes) -> None:
    """Byte for byte, because clients sign it."""
    echo = Echo()
    async with serving(echo) as served:
        await served.say(
            b"GET " + target + b" HTTP/1.1\r\nHost: gate\r\n" + b"Connection: close\r\n\r\n"
        )

    assert [scope["target"] for scope in echo.seen] == [target]
