"""Listens to one pub/sub channel of a Redis or Valkey server for ever.

Messages published while it was away are gone; its owner is told after every (re)connection, so that it
can catch up elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import unquote, urlsplit

import hiredis

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.node import BACKOFF_MAX_S, CONNECT_DEADLINE_S, REPLY_DEADLINE_S
from schemas.runtime.valkey.replies import BrokenProtocol, ReplyReader
from schemas.runtime.valkey.store import StoreUnavailable

_LOG = EventLog(__name__)


class _Listener(asyncio.Protocol):
    def __init__(self, channel: str, on_message: Callable[[bytes], None]) -> None:
        self.channel = channel
        self.subscribed = asyncio.Event()
        self.lost = asyncio.Event()
        self.heard_at_s = time.monotonic()
        self.transport: asyncio.Transport | None = None
        self._on_message = on_message
        self._replies = ReplyReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at_s = time.monotonic()
        try:
            replies = self._replies.take(data)
        except BrokenProtocol as error:
            _LOG.event(LogEvent.STORE_BROKE_PROTOCOL, channel=self.channel, error=error)
            if self.transport is not None:
                self.transport.abort()
            return
        for reply in replies:
            match reply:
                case [b"message", _, bytes(body)]:
                    self._hand_over(body)
                case [b"subscribe", *_]:
                    self.subscribed.set()

    def _hand_over(self, body: bytes) -> None:
        try:
            self._on_message(body)
        except Exception as defect:  # noqa: BLE001  # a boundary around one message
            # Anybody may publish: one message that its reader trips over must not cost the rest.
            _LOG.event(LogEvent.MESSAGE_DEFECT, channel=self.channel, defect=defect)

    def write(self, *command: str) -> None:
        """Send the command, unless the connection is lost already."""
        if self.transport is not None:
            self.transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's protocol
        self.transport = None
        self.lost.set()


class Subscription:
    """Listens to one channel for ever; messages published while it was away are gone, and
    ``on_subscribed`` is called after every (re)connection so that its owner can catch up."""

    def __init__(
        self,
        url: str,
        channel: str,
        on_message: Callable[[bytes], None],
        on_subscribed: Callable[[], None],
    ) -> None:
        self._url = urlsplit(url)
        self._channel = channel
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._keeper: asyncio.Task[None] | None = None
        self.subscribed = False

    async def start(self) -> None:
        """Begin listening; returns once subscribed, or raises ``StoreUnavailable``."""
        listener = await self._listen()
        self._keeper = asyncio.create_task(self._keep(listener))

    async def stop(self) -> None:
        """Stop listening."""
        if self._keeper is not None:
            self._keeper.cancel()

    async def _listen(self) -> _Listener:
        listener = _Listener(self._channel, self._on_message)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await loop.create_connection(
                    lambda: listener, self._url.hostname or "", self._url.port or 6379
                )
                if self._url.password:
                    user = unquote(self._url.username or "default")
                    listener.write("AUTH", user, unquote(self._url.password))
                listener.write("SUBSCRIBE", self._channel)
                await listener.subscribed.wait()
        except (OSError, TimeoutError) as error:
            if listener.transport is not None:
                listener.transport.abort()
            raise StoreUnavailable(f"{self._url.hostname}:{self._url.port}: {error!r}") from error
        self.subscribed = True
        self._on_subscribed()
        return listener

    async def _keep(self, listener: _Listener) -> None:
        """Reconnect after a loss; a ping each second finds a server that hangs."""
        try:
            while True:
                try:
                    await asyncio.wait_for(listener.lost.wait(), timeout=1.0)
                except TimeoutError:
                    self._ping(listener)
                    continue
                self.subscribed = False
                try:
                    listener = await self._listen()
                except StoreUnavailable:
                    await asyncio.sleep(BACKOFF_MAX_S / 4)
        finally:
            if listener.transport is not None:
                listener.transport.close()

    def _ping(self, listener: _Listener) -> None:
        if listener.transport is None:
            return
        if time.monotonic() - listener.heard_at_s > REPLY_DEADLINE_S:
            listener.transport.abort()
        else:
            listener.write("PING")
