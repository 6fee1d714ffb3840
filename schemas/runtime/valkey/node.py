"""One multiplexed connection to a Redis or Valkey server.

Commands travel in batches and replies resolve futures in order. This replaces the client library on the
hot path only: at 32 concurrent calls it costs a fifth of redis-py's CPU per command (ADR 0004 has the figures).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import hiredis

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.pipe import Pipe, Sent
from schemas.runtime.valkey.store import Argument, NodeView, OnConnect, StoreError, StoreUnavailable

_LOG = EventLog(__name__)

REPLY_DEADLINE_S: Final = 5.0
CONNECT_DEADLINE_S: Final = 3.0
_BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0


class NodeConnection:
    """``await call("GET", key)``. Reconnects by itself; while away, calls fail at once.

    ``on_connect`` runs on every new connection before anything else may use it, and is given what
    sends a command on it.
    """

    def __init__(self, url: str, on_connect: OnConnect | None = None) -> None:
        self._url = urlsplit(url)
        self._on_connect = on_connect
        self._pipe: Pipe | None = None
        self._ready = False
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._sent = Sent()
        self.trouble = "not connected"
        """Why there is no connection, while there is none: the server's own words when it refused us."""
        self.connections = 0
        """How many were made: whoever sees another number talks to a server that may have lost its data."""

    def expose(self, metrics: Metrics, kind: str) -> None:
        """Export how many commands went out, and in how many writes."""
        metrics.total("tallygate_store_commands_total", lambda: self._sent.commands, kind)
        metrics.total("tallygate_store_flushes_total", lambda: self._sent.flushes, kind)

    async def start(self) -> None:
        """Connect, waiting at most a few seconds, and keep connected from now on.

        Raises ``StoreUnavailable`` when the first connection fails.
        """
        await self._connect()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Disconnect for good."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._pipe is not None and self._pipe.transport is not None:
            self._pipe.transport.close()

    @property
    def connected(self) -> bool:
        """Whether calls go out now."""
        return self._ready

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send the command; the future holds its reply.

        Fails with ``StoreUnavailable`` (no answer, or not connected) or ``StoreError`` (refused).
        """
        if not self._ready:
            return _failed("not connected")
        return self._send(*command)

    async def call_each(self, *command: Argument) -> list[Any]:
        """The reply of the one server."""
        return [await self.call(*command)]

    def _send(self, *command: Argument) -> asyncio.Future[Any]:
        pipe = self._pipe
        if pipe is None or pipe.transport is None:
            return _failed("not connected")
        if pipe.is_full:
            return _failed("too much is under way")
        return pipe.send(hiredis.pack_command(command))  # type: ignore[arg-type]

    async def _connect(self) -> None:
        self._lost.clear()
        pipe = self._pipe = Pipe(self._on_lost, self._sent)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await loop.create_connection(
                    lambda: pipe, self._url.hostname or "", self._url.port or 6379
                )
                await self._introduce()
        except (OSError, TimeoutError, StoreError) as error:
            if pipe.transport is not None:
                pipe.transport.abort()
            self.trouble = str(error) if isinstance(error, StoreError) else "not connected"
            raise StoreUnavailable(f"{self._url.hostname}:{self._url.port}: {error!r}") from error
        self._ready, self.trouble = True, "not connected"
        self.connections += 1

    async def _introduce(self) -> None:
        if self._url.password:
            user = unquote(self._url.username or "default")
            await self._send("AUTH", user, unquote(self._url.password))
        database = self._url.path.strip("/") or "0"
        if database != "0":
            await self._send("SELECT", database)
        if self._on_connect is not None:
            await self._on_connect(NodeView(self._send, serves=lambda _: True))

    def _on_lost(self, pipe: Pipe) -> None:
        if pipe is self._pipe:
            self._ready = False
            self._lost.set()

    async def _keep(self) -> None:
        """Reconnect after a loss, and cut a connection whose server stopped answering."""
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                await asyncio.wait_for(self._lost.wait(), timeout=1.0)
            except TimeoutError:
                self._cut_if_hanging()
                continue
            try:
                await self._connect()
                backoff_s = _BACKOFF_FIRST_S
            except StoreUnavailable:
                self._lost.set()
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _cut_if_hanging(self) -> None:
        pipe = self._pipe
        now_s = asyncio.get_running_loop().time()
        if pipe and pipe.pending and now_s - pipe.pending[0].sent_at_s > REPLY_DEADLINE_S:
            _LOG.event(
                LogEvent.STORE_SILENT, store=self._url.hostname or "", port=self._url.port or 0
            )
            if pipe.transport is not None:
                pipe.transport.abort()


def _failed(reason: str) -> asyncio.Future[Any]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answer.set_exception(StoreUnavailable(reason))
    return answer
