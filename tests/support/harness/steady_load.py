"""A steady stream of requests for one model, and what becomes of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

from tests.support.harness.gateway_client import GatewayClient, Reply

REQUESTS_PER_S = 50


class SteadyLoad:
    """Sends at a fixed rate, with each key in turn, whatever becomes of earlier requests."""

    def __init__(self, client: GatewayClient, keys: Sequence[str], model: str) -> None:
        self._client = client
        self._keys = keys
        self._model = model
        self._sent: list[asyncio.Task[Reply]] = []
        self._sender: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sender = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._sender is not None
        self._sender.cancel()
        await asyncio.wait(self._sent)

    async def _send(self) -> None:
        while True:
            number = len(self._sent)
            key = self._keys[number % len(self._keys)]
            reply = self._client.chat(key, f"request {number}", model=self._model, max_tokens=20)
            self._sent.append(asyncio.create_task(reply))
            await asyncio.sleep(1 / REQUESTS_PER_S)

    def statuses(self) -> Counter[int]:
        """Of all replies; connections that broke are 0."""
        return Counter(0 if t.exception() else t.result().status for t in self._sent)


async def until(is_true: Callable[[], bool], deadline_s: float) -> float:
    """Seconds until it was true; fails at the deadline."""
    began_s = time.monotonic()
    while not await asyncio.to_thread(is_true):
        assert time.monotonic() < began_s + deadline_s, "it did not happen in time"
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s
