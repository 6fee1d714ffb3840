"""Listens to one pub/sub channel of a store for ever.

Messages published while it was away are gone; its owner is told after every (re)connection, so that it
can catch up elsewhere. On a cluster every server hears what is published on any, so one of them is enough.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import hiredis

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.address import read_address
from schemas.runtime.valkey.opening import finder
from schemas.runtime.valkey.replies import BrokenProtocol, ReplyReader
from schemas.runtime.valkey.store import StoreError, StoreUnavailable
from schemas.runtime.valkey.wire import CONNECT_DEADLINE_S, REPLY_DEADLINE_S, connect, pause_s

_LOG = EventLog(__name__)

_PING_EVERY_S = 1.0


class _Listener(asyncio.Protocol):
    def __init__(self, channel: str, on_message: Callable[[bytes], None]) -> None:
        self.channel = channel
        self.answered = asyncio.Event()
        self.refusal: StoreError | None = None
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
                    self.answered.set()
                case StoreError() if not self.answered.is_set():
                    self.refusal = reply
                    self.answered.set()

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
        self._address = read_address(url)
        self._find = finder(self._address)
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
            await asyncio.wait([self._keeper])

    async def _listen(self) -> _Listener:
        listener = _Listener(self._channel, self._on_message)
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await connect(lambda: listener, await self._find(), self._address.tls)
                if (login := self._address.login) is not None:
                    listener.write("AUTH", login.user, login.password)
                listener.write("SUBSCRIBE", self._channel)
                await listener.answered.wait()
            if listener.refusal is not None:
                raise listener.refusal
        except (OSError, TimeoutError, StoreError) as error:
            if listener.transport is not None:
                listener.transport.abort()
            named = ", ".join(map(str, self._address.servers))
            raise StoreUnavailable(f"{named}: {error!r}") from error
        self.subscribed = True
        self._on_subscribed()
        return listener

    async def _keep(self, listener: _Listener) -> None:
        """Reconnect after a loss; a ping each second finds a server that hangs."""
        failures = 0
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PING_EVERY_S):
                        await listener.lost.wait()
                if not listener.lost.is_set():
                    self._ping(listener)
                    continue
                self.subscribed = False
                try:
                    listener = await self._listen()
                    failures = 0
                except StoreUnavailable:
                    failures += 1
                    await asyncio.sleep(pause_s(failures, random.random()))  # noqa: S311  # jitter
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
