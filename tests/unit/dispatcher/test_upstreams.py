"""Calling backends: what is sent, and how everything that goes wrong is named."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from dispatcher.backends.probe_client import ProbeClient
from dispatcher.upstream import connecting
from dispatcher.upstream.target import place, request_head
from dispatcher.upstream.upstream_failure import UpstreamFailure
from dispatcher.work import Choice
from schemas.entities import Backend
from schemas.operations import OPERATIONS
from tests.support.scripted_backend import (
    answering,
    backend,
    choice_of,
    resetting_backend,
    streaming,
    upstreams,
)

CHAT = OPERATIONS["chat.completions"]
_REFUSAL = json.dumps({"error": {"message": "because"}}).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"


async def _failure(url: str) -> UpstreamFailure:
    """How a call of the URL fails."""
    async with upstreams() as client:
        with pytest.raises(UpstreamFailure) as caught:
            async with client.call(choice_of(url), CHAT, b"{}", "r1") as response:
                await client.body(response)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "upstream_rejected", False),
        (404, "upstream_rejected", False),
        (422, "upstream_rejected", False),
        (401, "upstream_error", True),
        (403, "upstream_error", True),
        (408, "server_is_overloaded", True),
        (425, "server_is_overloaded", True),
        (429, "upstream_rate_limited", True),
        (302, "upstream_error", True),
        (500, "upstream_error", True),
        (503, "upstream_error", True),
    ],
)
async def test_a_status_is_mapped(status: int, code: str, retryable: bool) -> None:
    """What the client did is not tried elsewhere; what the backend did is. None has spent."""
    async with backend(answering(status, _REFUSAL)) as url:
        failure = await _failure(url)

    assert (failure.code, failure.retryable) == (code, retryable)
    told = "the backend answered 401" if status == 401 else "because"  # of our key
    assert (failure.upstream_status, failure.client_message) == (status, told)
    assert not failure.may_have_spent


@pytest.mark.parametrize(
    ("header", "hint_ms"),
    [("3", 3_000), (" 3 ", 3_000), ("86400", 120_000), ("soon", None), ("-1", None), (None, None)],
)
async def test_a_hint_to_come_back_later_is_kept_within_bounds(
    header: str | None, hint_ms: int | None
) -> None:
    """Seconds up to two minutes; anything else is no hint."""
    headers = {} if header is None else {"retry-after": header}
    async with backend(answering(429, _REFUSAL, headers)) as url:
        failure = await _failure(url)

    assert failure.retry_after_ms == hint_ms


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "the backend answered 500"),
        (b'{"error": "text"}', "text"),
        (b'{"error": {"message": {"x": 1}}}', "the backend answered 500"),
        (b'{"error": {"message": ""}}', "the backend answered 500"),
        (json.dumps({"error": {"message": "x" * 900}}).encode(), "x" * 500),
    ],
    ids=["HTML", "a text", "no text", "empty", "long"],
)
async def test_a_refusal_has_a_message_of_bounded_length(body: bytes, message: str) -> None:
    """The backend's own where it is of the known shape."""
    async with backend(answering(500, body)) as url:
        assert (await _failure(url)).client_message == message


async def test_a_refusal_that_breaks_off_says_what_had_come_of_it() -> None:
    """The words are all there; only the end of the body is not."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=400)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(_REFUSAL)
        assert request.transport is not None
        request.transport.close()
        return response

    async with backend(answer) as url, upstreams() as client:
        at = place(url, "chat/completions")
        connection = await client.connections.take(at.origin, fresh=True)
        response = await connection.ask(request_head(at, {}, 2), b"{}")
        await asyncio.sleep(0.1)  # Body and break are there before anybody reads.
        failure = await client._refusal(response, Backend(url=url), "r1")

    assert failure.client_message == "because"


async def test_a_refused_connection_cannot_have_spent() -> None:
    """Nothing listens there, so another backend is free to try."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        failure = await _failure(f"http://127.0.0.1:{unused.getsockname()[1]}")

    assert (failure.code, failure.retryable) == ("no_backend_available", True)
    assert not failure.may_have_spent


async def test_a_connection_that_is_never_made_cannot_have_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The request was not even sent when the connect deadline passed: nobody takes the connection from the queue."""
    monkeypatch.setattr(connecting, "CONNECT_S_MAX", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        failure = await _failure(f"http://127.0.0.1:{full.getsockname()[1]}")
        for each in waiting:
            each.close()

    assert (failure.code, failure.may_have_spent) == ("no_backend_available", False)
    assert str(failure) == "TimeoutError"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "upstream_error"),
        (_HEAD, "upstream_interrupted"),
        (_HEAD + b"x", "upstream_interrupted"),
    ],
    ids=["before the answer", "after the headers", "in the body"],
)
async def test_a_reset_may_have_spent(sent: bytes, code: str) -> None:
    """The backend may have worked; the code says whether it had begun to answer."""
    async with resetting_backend(sent) as url:
        failure = await _failure(url)

    assert (failure.code, failure.retryable) == (code, True)
    assert failure.may_have_spent


async def test_an_answer_larger_than_any_completion_is_cut_off() -> None:
    """After 16 MiB, with its usage unknown."""
    piece = bytes(1024 * 1024)
    async with backend(streaming(*(piece for _ in range(18)))) as url:
        failure = await _failure(url)

    assert (failure.code, failure.client_message) == ("upstream_error", None)
    assert failure.may_have_spent


@asynccontextmanager
async def _recording(seen: list[tuple[dict[str, str], bytes]]) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen.append((headers, await request.read()))
        return web.Response(body=b"{}")

    server: AbstractAsyncContextManager[str] = backend(answer)
    async with server as url:
        yield url


async def test_a_backend_gets_its_own_key_and_none_of_the_clients_headers() -> None:
    """The body verbatim, the request id, no compression."""
    seen: list[tuple[dict[str, str], bytes]] = []
    async with _recording(seen) as url, upstreams({"BACKEND_B1_API_KEY": "s3cret"}) as client:
        choice = choice_of(url, api_key_env="BACKEND_B1_API_KEY")
        async with client.call(choice, CHAT, b'{"model": "echo" }', "r1") as response:
            assert await client.body(response) == b"{}"
    ((headers, body),) = seen

    assert body == b'{"model": "echo" }'
    assert set(headers) == {
        "host", "content-type", "content-length", "accept-encoding", "x-request-id", "authorization"
    }  # fmt: skip
    assert (headers["authorization"], headers["x-request-id"]) == ("Bearer s3cret", "r1")
    assert headers["accept-encoding"] == "identity"


async def test_a_backend_without_a_key_gets_no_authorization() -> None:
    """Also when its variable is not set."""
    seen: list[tuple[dict[str, str], bytes]] = []
    async with _recording(seen) as url, upstreams() as client:
        for more in ({}, {"api_key_env": "BACKEND_B1_API_KEY"}):
            async with client.call(choice_of(url, **more), CHAT, b"{}", "r1"):
                pass

    assert ["authorization" in headers for headers, _ in seen] == [False, False]


@pytest.mark.parametrize("value", ["s3cret\n", " s3cret\r\n"])
async def test_a_key_that_ends_in_a_newline_is_used_without_it(value: str) -> None:
    """As files give it."""
    seen: list[tuple[dict[str, str], bytes]] = []
    async with (
        _recording(seen) as url,
        upstreams({"BACKEND_B1_API_KEY": value}) as client,
        client.call(choice_of(url, api_key_env="BACKEND_B1_API_KEY"), CHAT, b"{}", "r1"),
    ):
        pass

    assert seen[0][0]["authorization"] == "Bearer s3cret"


async def test_a_key_that_no_header_can_carry_fails_its_backend_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Said once, without the key; others are called."""
    keys = {"BACKEND_B1_API_KEY": "s3\ncret", "BACKEND_B2_API_KEY": "\u043a\u043b\u044e\u0447"}
    async with backend(answering(200, b"{}")) as url, upstreams(keys) as client:
        probes = ProbeClient(client.authorization)
        await probes.start()
        for variable in (*keys, *keys):
            with pytest.raises(UpstreamFailure) as caught:
                async with client.call(choice_of(url, api_key_env=variable), CHAT, b"{}", "r1"):
                    pass
            assert (caught.value.code, caught.value.may_have_spent) == (
                "no_backend_available",
                False,
            )
            assert not (await probes.probe(Backend(url=url, api_key_env=variable))).is_alive
        async with client.call(choice_of(url), CHAT, b"{}", "r1") as response:
            assert response.status == 200

    said = [record.getMessage() for record in caplog.records]
    assert [sum(variable in line for line in said) for variable in keys] == [1, 1]
    assert not any("cret" in line for line in said)


@pytest.mark.parametrize(
    "url", ["http://[::1/v1", "http://[::1]@", "http://h:99999", f"http://{'a' * 70}", "http://.."]
)
async def test_a_url_that_cannot_be_called_is_no_backend(url: str) -> None:
    """Nothing was sent, so another may try."""
    broken = Choice(
        "b1", cast("Backend", SimpleNamespace(url=url, api_key_env=None, protocol="openai")), None
    )
    async with upstreams() as client:
        with pytest.raises(UpstreamFailure) as caught:
            async with client.call(broken, CHAT, b"{}", "r1"):
                pass

    assert (caught.value.code, caught.value.retryable) == ("no_backend_available", True)
    assert not caught.value.may_have_spent
