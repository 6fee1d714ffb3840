"""One multiplexed connection to a Redis or Valkey server.

Commands travel in batches and replies resolve futures in order. This replaces the client library on the
hot path only: at 32 concurrent calls it costs a fifth of redis-py's CPU per command (ADR 0004 has the figures).
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.address import Endpoint, StoreAddress
from schemas.runtime.valkey.pipe import OnElsewhere, Pending, Pipe, Sent, failed
from schemas.runtime.valkey.store import Argument, NodeView, OnConnect, StoreError, StoreUnavailable
from schemas.runtime.valkey.wire import CONNECT_DEADLINE_S, REPLY_DEADLINE_S, connect, pause_s

_LOG = EventLog(__name__)

_NOT_CONNECTED: Final = "not connected"
_LOOK_EVERY_S: Final = 1.0
_FIND_EVERY: Final = 5
"""Every how many looks it is asked whether the server is still the one."""

Find = Callable[[], Awaitable[Endpoint]]
"""Says where the server is now. Raises ``StoreUnavailable``."""
HasMoved = Callable[[Endpoint, NodeView], Awaitable[bool]]
"""Says whether the address leads to another server by now than to the one there. Raises ``StoreUnavailable``, ``StoreError``."""


class NodeConnection:
    """The connection to one server; made anew whenever it is lost, at most once a second for long.

    ``on_connect`` runs on every new connection before anything else may use it. ``find`` is asked before each.
    """

    def __init__(
        self,
        address: StoreAddress,
        find: Find,
        on_connect: OnConnect | None = None,
        *,
        serves: Callable[[str], bool] = lambda _: True,
        on_elsewhere: OnElsewhere | None = None,
        on_change: Callable[[], None] = lambda: None,
        has_moved: HasMoved | None = None,
        sent: Sent | None = None,
    ) -> None:
        self.trouble = _NOT_CONNECTED
        """Why there is no connection, while there is none: the server's own words when it refused us."""
        self.connections = 0
        """How many were made: whoever sees another number talks to a server that may have lost its data."""
        self._address = address
        self._find = find
        self._on_connect = on_connect
        self._serves = serves
        self._on_elsewhere = on_elsewhere
        self._on_change = on_change
        self._has_moved = has_moved
        """Asked now and then where another server may take this one's place while this one goes on answering."""
        self._sent = sent or Sent()
        self._endpoint = address.servers[0]
        self._pipe: Pipe | None = None
        """What is connected or about to be."""
        self._live: Pipe | None = None
        """The same once everybody may use it."""
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    def expose(self, metrics: Metrics, kind: str) -> None:
        """Export how many commands went out, and in how many writes."""
        metrics.total("tallygate_store_commands_total", lambda: self._sent.commands, kind)
        metrics.total("tallygate_store_flushes_total", lambda: self._sent.flushes, kind)

    async def start(self) -> None:
        """Connect, and keep connected from now on. Raises ``StoreUnavailable`` when that fails."""
        await self._connect()
        self._keeper = asyncio.create_task(self._keep())

    def begin(self) -> None:
        """Keep connected from now on, without waiting for the first time."""
        self._lost.set()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Disconnect for good."""
        self.end()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    def end(self) -> None:
        """Disconnect for good; what is under way ends as unavailable."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._pipe is not None and self._pipe.transport is not None:
            self._pipe.transport.close()

    @property
    def connected(self) -> bool:
        """Whether calls go out now."""
        return self._live is not None

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send the command; the future holds its reply.

        Fails with ``StoreUnavailable`` (no answer, or not connected) or ``StoreError`` (refused).
        """
        pipe = self._live
        return failed(_NOT_CONNECTED) if pipe is None else pipe.send(command)

    async def call_each(self, *command: Argument) -> list[Any]:
        """The reply of the one server."""
        return [await self.call(*command)]

    def take_over(self, pending: Pending, *, asking: bool = False) -> None:
        """Send what another server sent here; it fails as ``call`` does."""
        if pending.answer.done():
            return
        if self._live is None:
            pending.answer.set_exception(StoreUnavailable(_NOT_CONNECTED))
        else:
            self._live.take_over(pending, asking=asking)

    def _send(self, *command: Argument) -> asyncio.Future[Any]:
        """Send what comes before anybody else's commands."""
        pipe = self._pipe
        return (
            failed(_NOT_CONNECTED) if pipe is None or pipe.transport is None else pipe.send(command)
        )

    async def _connect(self) -> None:
        self._lost.clear()
        pipe = self._pipe = Pipe(self._on_lost, self._sent)
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                self._endpoint = await self._find()
                await connect(lambda: pipe, self._endpoint, self._address.tls)
                await self._introduce()
        except (OSError, TimeoutError, StoreError, StoreUnavailable) as error:
            pipe.cut()
            # What others would have to mend is told in their words.
            is_told = isinstance(error, StoreError | ssl.SSLError | FileNotFoundError)
            self.trouble = str(error) if is_told else _NOT_CONNECTED
            raise StoreUnavailable(f"{self._endpoint}: {error!r}") from error
        pipe.on_elsewhere = self._on_elsewhere
        self._live, self.trouble = pipe, _NOT_CONNECTED
        self.connections += 1
        self._on_change()

    async def _introduce(self) -> None:
        if (login := self._address.login) is not None:
            await self._send("AUTH", login.user, login.password)
        if self._address.database:
            await self._send("SELECT", self._address.database)
        if self._on_connect is not None:
            await self._on_connect(NodeView(self._send, self._serves))

    def _on_lost(self, pipe: Pipe) -> None:
        if pipe is self._pipe:
            self._live = None
            self._lost.set()
            self._on_change()

    async def _keep(self) -> None:
        """Reconnect after a loss, and leave a server that stopped answering or is not the one any more."""
        failures, looks = 0, 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._lost.wait()
            if not self._lost.is_set():
                self._cut_if_hanging()
                looks += 1
                if self._has_moved is not None and looks % _FIND_EVERY == 0:
                    await self._cut_if_elsewhere(self._has_moved)
                continue
            try:
                await self._connect()
                failures = 0
            except StoreUnavailable:
                self._lost.set()
                failures += 1
                await asyncio.sleep(pause_s(failures, random.random()))  # noqa: S311  # jitter, no secret

    def _cut_if_hanging(self) -> None:
        pipe = self._pipe
        now_s = asyncio.get_running_loop().time()
        if pipe and pipe.pending and now_s - pipe.pending[0].sent_at_s > REPLY_DEADLINE_S:
            _LOG.event(LogEvent.STORE_SILENT, store=self._endpoint.host, port=self._endpoint.port)
            pipe.cut()

    async def _cut_if_elsewhere(self, has_moved: HasMoved) -> None:
        """Leave a server whose place another one took; who cannot be asked says nothing."""
        pipe = self._pipe
        with suppress(StoreUnavailable, StoreError, TimeoutError):
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                if await has_moved(self._endpoint, NodeView(self._send, self._serves)) and pipe:
                    _LOG.event(
                        LogEvent.STORE_MOVED, store=self._endpoint.host, port=self._endpoint.port
                    )
                    pipe.cut()
