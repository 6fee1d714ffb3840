"""One request and its answer on a connection: uvicorn's, with one write for head and body.

A write is a call of the system that wakes the client, so the head of an answer waits for its body where the application
says that this follows at once. The bytes are those that uvicorn writes; a test compares them.
"""

from __future__ import annotations

from typing import Any, Final, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from ingress.http.refusals import Headers

BODY_FOLLOWS: Final = "body_follows"
"""In the message that starts an answer: nothing is awaited before the first of its body is sent."""
_COPIED_BYTES_MAX: Final = 64 * 1024
"""A longer body is a write of its own; copying it would cost more than the call."""
_WITHOUT_BODY: Final = (204, 304)


class Exchange(RequestResponseCycle):
    """A request's body as it arrives, and its answer as it is written."""

    _head = b""
    """What of the answer waits for its body."""

    async def send(self, message: ASGISendEvent) -> None:
        """Write a part of the answer. Raises ``RuntimeError`` for what is no HTTP, or out of order."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        said = cast("dict[str, Any]", message)
        if not self.response_started:
            self._begin(said)
        elif not self.response_complete:
            self._go_on(said)
        else:
            raise RuntimeError(f"{message['type']!r} was sent after the answer was complete.")

    def _begin(self, message: dict[str, Any]) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"An answer does not begin with {message['type']!r}.")
        self.response_started = True
        self.waiting_for_100_continue = False
        head = self._head_of(message["status"], message.get("headers", []))
        if message.get(BODY_FOLLOWS):
            self._head = head
        else:
            self.transport.write(head)

    def _head_of(self, status: int, more: Headers) -> bytes:
        """Status line and headers, which also decide how the body is framed."""
        headers = [(name.lower(), value) for name, value in (*self.default_headers, *more)]
        lines, is_closing = [STATUS_LINE[status]], False
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                if self.chunked_encoding is None:
                    self.expected_content_length, self.chunked_encoding = int(value), False
            elif name == b"transfer-encoding":
                if value.lower() == b"chunked":
                    self.expected_content_length, self.chunked_encoding = 0, True
            elif name == b"connection" and b"close" in map(bytes.strip, value.lower().split(b",")):
                self.keep_alive, is_closing = False, True
        names, values = zip(*headers, strict=True) if headers else ((), ())
        # What one may not have, all of them one behind the other do not have.
        if HEADER_RE.search(b"".join(names)) or HEADER_VALUE_RE.search(b"".join(values)):
            raise RuntimeError("A header has a name or value that HTTP does not allow.")
        if not self.keep_alive and not is_closing:
            lines.append(b"connection: close\r\n")
        has_length = self.chunked_encoding is not None
        if not has_length and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _go_on(self, message: dict[str, Any]) -> None:
        if message["type"] != "http.response.body":
            raise RuntimeError(f"An answer does not go on with {message['type']!r}.")
        is_last = not message.get("more_body", False)
        framed = self._framed(message.get("body", b""), is_last=is_last)
        head, self._head = self._head, b""
        if head and len(framed) > _COPIED_BYTES_MAX:
            self.transport.write(head)
            head = b""
        if part := head + framed:
            self.transport.write(part)
        if is_last:
            self._complete()

    def _framed(self, body: bytes, *, is_last: bool) -> bytes:
        """A part of the body as it is written, behind a head that said how."""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            return b""
        if self.chunked_encoding:
            end = b"0\r\n\r\n" if is_last else b""
            return b"%x\r\n%b\r\n%b" % (len(body), body, end) if body else end
        if len(body) > self.expected_content_length:
            raise RuntimeError("The body is longer than its content-length.")
        self.expected_content_length -= len(body)
        return body

    def _complete(self) -> None:
        if self.expected_content_length != 0:
            raise RuntimeError("The body is shorter than its content-length.")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
