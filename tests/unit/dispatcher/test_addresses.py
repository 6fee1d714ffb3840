"""A backend is called and probed at its own address: a query stays last, no proxy of the environment is asked (D5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher.backends.probe_client import ProbeClient
from schemas.entities import Backend
from schemas.operations import OPERATIONS
from tests.support.scripted_backend import choice_of, upstreams

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


@asynccontextmanager
async def _server() -> AsyncIterator[tuple[str, list[str]]]:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" HTTP/")[0])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
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
        fault = await probes.fault(Backend(url=url + address))
        await probes.stop()

    assert fault is None
    assert asked == [f"POST {path}/chat/completions{query}", f"GET {path}/models{query}"]
