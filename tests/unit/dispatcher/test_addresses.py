"""A backend is called and probed at its own address: a query stays last, no proxy of the environment is asked (D5),
and nobody is sent elsewhere by what answers there (S12).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher.backends.probe_client import ProbeClient
from dispatcher.upstream.upstream_failure import UpstreamFailure
from schemas.entities import Backend
from schemas.operations import OPERATIONS
from tests.support.scripted_backend import choice_of, upstreams

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


@asynccontextmanager
async def _server(
    start: str = "200 OK", location: str = ""
) -> AsyncIterator[tuple[str, list[str]]]:
    asked: list[str] = []
    head = f"HTTP/1.1 {start}\r\n{location}content-length: 2\r\nconnection: close\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" HTTP/")[0])
        writer.write(head.encode() + b"{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize(
    ("address", "path", "query"),
    [
        ("", "/v1", ""),
        ("/v1/", "/v1", ""),
        ("?api-version=2024-10-21", "/v1", "?api-version=2024-10-21"),
        (
            "/openai/deployments/m?api-version=1&x=2",
            "/openai/deployments/m",
            "?api-version=1&x=2",
        ),
    ],
)
async def test_calls_and_probes_take_the_same_way(
    address: str, path: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a company's machine has in its environment: nothing listens at that proxy."""
    for variable in PROXIES:
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    async with _server() as (url, asked), upstreams() as client:
        async with client.call(
            choice_of(url + address), OPERATIONS["chat.completions"], b"{}", "r1"
        ):
            pass
        probes = ProbeClient(client.authorization)
        await probes.start()
        probe = await probes.probe(Backend(url=url + address))
        await probes.stop()

    assert probe.is_alive
    assert asked == [f"POST {path}/chat/completions{query}", f"GET {path}/models{query}"]


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 Other", "307 Again", "308 Moved"]
)
async def test_a_redirect_leads_nowhere(status: str) -> None:
    """S12: the one way for a server to choose whom we call, such as what a cloud tells its machines."""
    async with _server() as (inner, reached):
        location = f"location: {inner}/latest/meta-data/\r\n"
        async with _server(status, location) as (url, asked), upstreams() as client:
            with pytest.raises(UpstreamFailure) as caught:
                async with client.call(choice_of(url), OPERATIONS["chat.completions"], b"{}", "r1"):
                    pass
            probes = ProbeClient(client.authorization)
            await probes.start()
            await probes.probe(Backend(url=url))
            await probes.stop()

    assert caught.value.upstream_status == int(status[:3])
    assert len(asked) == 2
    assert reached == []
