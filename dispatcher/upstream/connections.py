"""Makes the connections to backends: each answer is bounded before it is parsed, a connection on which a backend
spoke unasked is never used again, and none is used that the backend is about to close.

aiohttp bounds lines and headers; it does not bound how many interim answers a backend sends, how many
bytes it spends on chunk extensions, nor does it look at what arrived while a connection was idle, which
the next caller, of another tenant, would take for its own answer.
"""

from __future__ import annotations

import functools
import re
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from dispatcher.upstream.peer_bytes import PeerBytes, peer_bytes

if TYPE_CHECKING:
    from aiohttp import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest, ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

LINE_BYTES_MAX: Final = 8 * 1024
"""Of a status line, and of one header."""
HEADERS_MAX: Final = 128
HEADS_MAX: Final = 64
"""Interim answers and the one that counts."""
ANSWER_BYTES_MAX: Final = 80 * 1024 * 1024
"""Of one answer on the wire: the longest stream, and what frames it."""
IDLE_S_MAX: Final = 4.0
"""Servers close what was idle for five seconds (uvicorn, Node, gunicorn: llm-d/llm-d-benchmark#1675)."""
_IDLE_MARGIN_S: Final = 1.0
"""A call is on its way for so long before the server has it."""
_KEPT: Final = re.compile(r"(?:^|[,;\s])timeout\s*=\s*(\d{1,6})", re.ASCII)


_UNTOLD: Final = PeerBytes(is_open=True, acknowledged=-1, received=-1)
"""Of a system that tells nothing: nothing is proved by it."""


class Answering(ResponseHandler):
    """One connection: counts what arrives for the call that has it now."""

    released_s = 0.0
    """When its last call was over."""
    idle_s_max = IDLE_S_MAX
    was_unread = False
    """Whether its last call met a connection that the backend had closed before it had a byte of the call."""
    _before: PeerBytes | None = None
    """Of a kept connection, when its call began."""
    _heads = 0
    _received_bytes = 0

    @property
    def was_cut(self) -> bool:
        """Whether it was kept from a call before, and ended before any byte of an answer."""
        return self._before is not None and not self._received_bytes

    def is_usable(self) -> bool:
        """Whether another call may begin on it: the backend has not hung up, as far as the kernel knows."""
        self._before = peer_bytes(self.transport) or _UNTOLD
        return self._before.is_open

    def keep(self, header: str) -> None:
        """Heed how long the backend keeps it, as it says in ``Keep-Alive``."""
        said = _KEPT.search(header[:256])
        if said is not None:
            self.idle_s_max = min(IDLE_S_MAX, max(0.0, int(said[1]) - _IDLE_MARGIN_S))

    def set_response_params(self, **params: Any) -> None:
        """A call begins."""
        self._heads = self._received_bytes = 0
        super().set_response_params(**params)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is over; what the kernel knows of it is forgotten after this."""
        if self.was_cut and self._before is not None:
            now = peer_bytes(self.transport)
            self.was_unread = now is not None and now.shows_unread(self._before)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless it is too much."""
        self._received_bytes += len(data)
        if self._received_bytes > ANSWER_BYTES_MAX:
            self._break_off("an answer of too many bytes")
            return
        super().data_received(data)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A head was parsed."""
        self._heads += 1
        if self._heads > HEADS_MAX:
            self._break_off("too many heads")
            return
        super().feed_data(data, size)

    def _break_off(self, why: str) -> None:
        error = aiohttp.ClientPayloadError(why)
        if self.transport is not None:
            self.transport.abort()
        if self._payload is not None and self._payload.exception() is None:
            self._payload.set_exception(error)
        if self._exception is None:
            self.set_exception(HttpProcessingError(message=why), error)


connection_used: ContextVar[Answering | None] = ContextVar("connection_used", default=None)
"""The connection of this task's last call."""
needs_fresh: ContextVar[bool] = ContextVar("needs_fresh", default=False)
"""Whether this task's call must not use a kept connection."""


class Connections(aiohttp.TCPConnector):
    """The pool of all backends; as many connections as there are calls."""

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=IDLE_S_MAX)
        make = functools.partial(Answering, loop=self._loop)
        self._factory = cast("functools.partial[ResponseHandler]", make)

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109  # the library's
    ) -> Connection:
        """A connection, noted as this task's."""
        connection = await super().connect(req, traces, timeout)
        connection_used.set(cast("Answering", connection.protocol))
        return connection

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """An idle connection, if there is one on which nothing waits to be read and that is not about to close."""
        if needs_fresh.get():
            return None
        while (connection := await super()._get(key, traces)) is not None:
            protocol = cast("Answering | None", connection.protocol)
            if protocol is None:
                return connection
            idle_s = time.monotonic() - protocol.released_s
            is_young = not protocol.should_close and idle_s <= protocol.idle_s_max
            if is_young and protocol.is_usable():
                return connection
            connection.close()
        return None

    def _release(
        self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        """A call is over: from now on its connection is idle."""
        cast("Answering", protocol).released_s = time.monotonic()
        super()._release(key, protocol, should_close=should_close)
