"""Makes the connections to backends: each answer is bounded before it is parsed, and a connection on which
a backend spoke unasked is never used again.

aiohttp bounds lines and headers; it does not bound how many interim answers a backend sends, how many
bytes it spends on chunk extensions, nor does it look at what arrived while a connection was idle, which
the next caller, of another tenant, would take for its own answer.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

LINE_BYTES_MAX: Final = 8 * 1024
"""Of a status line, and of one header."""
HEADERS_MAX: Final = 128
HEADS_MAX: Final = 64
"""Interim answers and the one that counts."""
ANSWER_BYTES_MAX: Final = 80 * 1024 * 1024
"""Of one answer on the wire: the longest stream, and what frames it."""
_KEEPALIVE_S: Final = 60.0


class _Answer(ResponseHandler):
    """One connection: counts what arrives for the call that has it now."""

    _heads = 0
    _received_bytes = 0

    def set_response_params(self, **params: Any) -> None:
        """A call begins."""
        self._heads = self._received_bytes = 0
        super().set_response_params(**params)

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


class Connections(aiohttp.TCPConnector):
    """The pool of all backends; as many connections as there are calls."""

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=_KEEPALIVE_S)
        make = functools.partial(_Answer, loop=self._loop)
        self._factory = cast("functools.partial[ResponseHandler]", make)

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """An idle connection, if there is one on which nothing waits to be read."""
        while (connection := await super()._get(key, traces)) is not None:
            protocol = connection.protocol
            if protocol is None or not protocol.should_close:
                return connection
            connection.close()
        return None
