"""What is asked of a store, whatever stands behind its address: one server or a cluster of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.failures import Defect, Transient
from schemas.runtime.process.telemetry import Metrics

Argument = str | bytes | int
Send = Callable[..., asyncio.Future[Any]]


class StoreUnavailable(Transient):
    """No answer: the command may or may not have been carried out. Transient."""


class StoreError(Defect):
    """The server answered with an error; the first word is its code."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One server of a store, before anybody else may use it."""

    send: Send
    """Sends a command to this server; the future holds its reply."""
    serves: Callable[[str], bool]
    """Whether a key is looked for here from now on: always, where the server stands alone."""


OnConnect = Callable[[NodeView], Awaitable[None]]
"""Runs on every new connection to a server, and again where it takes over keys from another."""


class Store(Protocol):
    """``await call("GET", key)``. Reconnects by itself; while away, calls fail at once."""

    @property
    def connected(self) -> bool:
        """Whether calls go out now, whatever their key."""

    @property
    def trouble(self) -> str:
        """Why they do not, while they do not: the server's own words when it refused us."""

    @property
    def connections(self) -> int:
        """How many were made: whoever sees another number talks to a server that may have lost its data."""

    async def start(self) -> None:
        """Connect, waiting at most a few seconds, and keep connected from now on.

        Raises ``StoreUnavailable`` when the first connection fails.
        """

    async def stop(self) -> None:
        """Disconnect for good."""

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send the command to whoever serves its key; the future holds its reply.

        Fails with ``StoreUnavailable`` (no answer, or not connected) or ``StoreError`` (refused).
        """

    async def call_each(self, *command: Argument) -> list[Any]:
        """The replies of all servers to a command without a key. Raises as ``call``."""

    def expose(self, metrics: Metrics, kind: str) -> None:
        """Export how many commands went out, and in how many writes."""


def text_pairs(reply: object) -> dict[str, str]:
    """The fields of a hash as text; what is none, or is not UTF-8, is left out."""
    flat = reply if isinstance(reply, list) else []
    pairs: dict[str, str] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=False):
        if isinstance(name, bytes) and isinstance(value, bytes):
            with suppress(UnicodeDecodeError):
                pairs[name.decode()] = value.decode()
    return pairs
