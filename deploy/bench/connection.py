"""One HTTP/1.1 keep-alive connection that costs little CPU, as it shares cores with the server.

Requests are prepared bytes; responses are parsed in C. Invariant: every exchange ends, by its
answer, by the loss of the connection or by its deadline.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

END_OF_STREAM: Final = b"data: [DONE]"
_EVENT: Final = b"data: "
_TAIL_BYTES: Final = 32
_ERROR_BYTES_MAX: Final = 4_096
OK: Final = "ok"
TIMEOUT: Final = "timeout"
CONNECTION_LOST: Final = "connection_lost"
NOT_CONNECTED: Final = "not_connected"
STREAM_BROKEN: Final = "stream_broken"


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """The bytes of a whole request, and whether its answer is a stream of events."""

    data: bytes
    is_stream: bool


class Connection(asyncio.Protocol):
    """One connection with at most one exchange at a time; it connects again when it was lost."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None, "the URL names a host"
        self._host, self._port = address.hostname, address.port or 80
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[str] | None = None
        self._is_stream = False
        self._tail = b""
        self._loss = CONNECTION_LOST
        self._is_reused = False
        self._is_answered = False
        self.was_closed_idle = False
        """Whether the last exchange met a connection that the server had closed meanwhile."""
        self.first_s: float | None = None
        """When the last answer's body began, as `perf_counter` counts; for a stream its first token."""
        self.events = 0
        """Events of the last stream, the one that ends it included."""

    async def exchange(self, request: PreparedRequest, timeout_s: float) -> str:
        """Send one request and wait for its whole answer.

        Returns OK, `http_<status>`, or the reason why there was no whole answer.
        """
        loop = asyncio.get_running_loop()
        self._is_reused, self._is_answered = self._transport is not None, False
        self.was_closed_idle = False
        self.first_s, self.events = None, 0
        if self._transport is None:
            try:
                async with asyncio.timeout(timeout_s):
                    await loop.create_connection(lambda: self, self._host, self._port)
            except (OSError, TimeoutError):
                return NOT_CONNECTED
        assert self._transport is not None, "connection_made ran"
        self._answer = loop.create_future()
        self._is_stream, self._tail, self._loss = request.is_stream, b"", CONNECTION_LOST
        self._transport.write(request.data)
        deadline = loop.call_later(timeout_s, self._abandon)
        try:
            return await self._answer
        finally:
            deadline.cancel()

    def close(self) -> None:
        """Close the connection; an exchange in flight ends as lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports do not derive from asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._is_answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        is_lost = self._loss == CONNECTION_LOST
        self.was_closed_idle = is_lost and self._is_reused and not self._is_answered
        self._end(self._loss)

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a piece of the answer's body."""
        if self.first_s is None:
            self.first_s = perf_counter()
        if self._is_stream:
            # An event's mark may be cut by the end of a piece; what ends in the tail was not counted.
            cut = self._tail[1 - len(_EVENT) :]
            self.events += (cut + body).count(_EVENT)
            self._tail = (self._tail + body)[-_TAIL_BYTES:]

    def on_message_complete(self) -> None:
        """Called by the parser at the end of an answer."""
        status = self._parser.get_status_code()
        if status != HTTPStatus.OK:
            self._end(f"http_{status}")
        elif self._is_stream and END_OF_STREAM not in self._tail:
            self._end(STREAM_BROKEN)
        else:
            self._end(OK)

    def _abandon(self) -> None:
        # The exchange ends when the connection is really gone, so that the next one opens another.
        self._loss = TIMEOUT
        self.close()

    def _end(self, outcome: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(outcome)


class TellingConnection(Connection):
    """A connection that also reads headers: the request's id, and whether a refusal says when to try again; and the
    body of what is no success."""

    request_id = ""
    has_retry_after = False
    error_body = b""
    """The first bytes of an answer other than 200."""

    def on_message_begin(self) -> None:
        """Called by the parser at the start of an answer."""
        self.request_id, self.has_retry_after, self.error_body = "", False, b""

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a piece of the answer's body."""
        super().on_body(body)
        if self._parser.get_status_code() != HTTPStatus.OK:
            self.error_body = (self.error_body + body)[:_ERROR_BYTES_MAX]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser with each header."""
        match name.lower():
            case b"x-request-id":
                self.request_id = value.decode("latin-1")
            case b"retry-after":
                self.has_retry_after = True
