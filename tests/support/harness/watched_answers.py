"""Watches what gateways answer to the clients of tests: each answer is judged by the published OpenAPI document.

The clients are watched where they all pass, so that no test has to ask for it: httpx and aiohttp, also as libraries use
them. Addresses of gateways are told by whoever starts one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import aiohttp
import httpx
import httpx2

from tests.support.api_contract import ApiContract, api_contract

_GATEWAYS: Final[set[str]] = set()
"""Host and port of those that were started here."""


def watch(*urls: str) -> None:
    """Judge what is answered below these addresses from now on."""
    _GATEWAYS.update(urlsplit(url).netloc for url in urls)


@dataclass(slots=True)
class Watch:
    """What was seen in one run."""

    contract: ApiContract = field(default_factory=api_contract)
    answers: int = 0
    took_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    """Of answers that nobody was told of yet."""

    def see(
        self, method: str, url: str, status: int, content_type: str, body: bytes | None
    ) -> None:
        """Judge one answer. Raises ``AssertionError``, which whoever sent the request may swallow; ``problems`` keeps it."""
        parts = urlsplit(url)
        if parts.netloc not in _GATEWAYS:
            return
        began_s = time.perf_counter()
        what = self.contract.problem(method, unquote(parts.path), status, content_type, body)
        self.answers += 1
        self.took_s += time.perf_counter() - began_s
        if what is not None:
            told = f"{method} {parts.path} {status}: {what}: {(body or b'')[:2_000]!r}"
            self.problems.append(told)
            raise AssertionError(told)


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch until the block is left."""
    seen = Watch()
    targets = [
        patch.object(module.Client, "send", _sending(module.Client.send, seen))
        for module in (httpx, httpx2)
    ]
    targets += [
        patch.object(module.AsyncClient, "send", _sending_later(module.AsyncClient.send, seen))
        for module in (httpx, httpx2)
    ]
    targets.append(
        patch.object(aiohttp.ClientResponse, "read", _reading(aiohttp.ClientResponse.read, seen))
    )
    for target in targets:
        target.start()
    try:
        yield seen
    finally:
        for target in targets:
            target.stop()


def _sending(send: Callable[..., Any], seen: Watch) -> Callable[..., Any]:
    def sent(client: Any, request: Any, **more: Any) -> Any:
        answer = send(client, request, **more)
        _see_httpx(answer, seen, is_stream=bool(more.get("stream")))
        return answer

    return sent


def _sending_later(send: Callable[..., Any], seen: Watch) -> Callable[..., Any]:
    async def sent(client: Any, request: Any, **more: Any) -> Any:
        answer = await send(client, request, **more)
        _see_httpx(answer, seen, is_stream=bool(more.get("stream")))
        return answer

    return sent


def _see_httpx(answer: Any, seen: Watch, *, is_stream: bool) -> None:
    body = None if is_stream else answer.content
    seen.see(
        answer.request.method,
        str(answer.request.url),
        answer.status_code,
        answer.headers.get("content-type", ""),
        body,
    )


def _reading(read: Callable[..., Any], seen: Watch) -> Callable[..., Any]:
    async def body_of(answer: aiohttp.ClientResponse) -> bytes:
        was_read = answer._body is not None
        body: bytes = await read(answer)
        if not was_read:
            told = answer.headers.get("content-type", "")
            seen.see(answer.method, str(answer.url), answer.status, told, body)
        return body

    return body_of
