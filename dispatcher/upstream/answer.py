"""Reads one answer of a backend as it arrives: each part is bounded before it is kept.

Grammar and framing are llhttp's (RFC 9112), by httptools, as lenient as clients have to be: bare line feeds, folded
headers, blanks behind a chunk's size. Never lenient where one answer could be taken for two: both lengths are
refused. What llhttp does not bound is bounded here: lines, headers, interim answers, and whatever carries nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

import httptools

from schemas.failures import Transient

__all__ = [
    "ANSWER_BYTES_MAX",
    "HEADERS_MAX",
    "HEADS_MAX",
    "LINE_BYTES_MAX",
    "Answer",
    "AnswerBroken",
]

LINE_BYTES_MAX: Final = 8 * 1024
"""Of a status line, and of one header."""
HEADERS_MAX: Final = 128
"""Of all heads of an answer, and its trailers."""
HEADS_MAX: Final = 64
"""Interim answers and the one that counts."""
ANSWER_BYTES_MAX: Final = 80 * 1024 * 1024
"""Of one answer on the wire: the longest stream, and what frames it."""
_PIECE_BYTES: Final = 16 * 1024
"""Parsed at once: a header in many folds costs the square of this at most."""
_HELD_BYTES_MAX: Final = 128 * 1024
"""Of a body that nobody has taken yet; then the connection is not read until somebody does."""
_INTERIM: Final = 100
_SWITCHED: Final = 101
"""Nobody asked for it; it ends the connection's HTTP."""
_FINAL: Final = 200


class AnswerBroken(Transient):
    """An answer did not come whole, or is none; a class of cause, no text of a backend.

    ``is_cut``: a kept connection ended before any byte of it. ``is_unread``: the backend had no byte of the call.
    """

    def __init__(self, what: str, *, is_cut: bool = False, is_unread: bool = False) -> None:
        super().__init__(what)
        self.is_cut = is_cut
        self.is_unread = is_unread


class Answer:
    """The answer to one call, for the task that reads it and the connection that feeds it."""

    __slots__ = (
        "_headers",
        "_heads",
        "_held_bytes",
        "_is_in_extension",
        "_is_paused",
        "_last_coding",
        "_lines",
        "_parser",
        "_parts",
        "_transport",
        "_unfinished_bytes",
        "_waiter",
        "ended_s",
        "error",
        "has_head",
        "has_surplus",
        "is_complete",
        "may_stay",
        "received_bytes",
        "status",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self.has_head = False
        """Whether the head of the final answer has come."""
        self.status = 0
        self.is_complete = False
        self.has_surplus = False
        """Whether something followed the end of the answer."""
        self.may_stay = False
        """Whether the backend will take another call, as far as its head says."""
        self.error: AnswerBroken | None = None
        self.received_bytes = 0
        self.ended_s = 0.0
        """Loop time at which it was whole."""
        self._transport = transport
        self._headers: dict[bytes, bytes] = {}
        self._last_coding = b""
        self._heads = self._lines = self._unfinished_bytes = self._held_bytes = 0
        self._parts: list[bytes] = []
        self._is_in_extension = False
        """Whether a chunk's size comes next, and what may follow it, which nobody keeps."""
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._parser: httptools.HttpResponseParser | None = parser

    @property
    def is_reusable(self) -> bool:
        """Whether nothing that came forbids another call on its connection."""
        return self.is_complete and self.may_stay and not (self.has_surplus or self._is_paused)

    def header(self, name: bytes) -> str | None:
        """A header by its name in lower case, the first of that name; ``None`` where there is none."""
        value = self._headers.get(name)
        return None if value is None else value.strip().decode("latin-1")

    async def head(self) -> None:
        """Wait for the head of the final answer. Raises ``AnswerBroken`` when none comes."""
        while not self.has_head:
            if self.error is not None:
                raise self.error
            await self._moved()

    async def read(self) -> bytes:
        """What has come of the body, as soon as anything has; empty at its end.

        Raises ``AnswerBroken`` once nothing is left of a body that broke off.
        """
        while not self._parts:
            if self.error is not None:
                raise self.error
            if self.is_complete:
                return b""
            await self._moved()
        received = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._held_bytes = [], 0
        if self._is_paused:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return received

    async def _moved(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def feed(self, data: bytes) -> None:
        """Take what arrived. Never raises: ``error`` and ``has_surplus`` say what is wrong with it."""
        self.received_bytes += len(data)
        if self.error is not None:
            return
        try:
            if self.received_bytes > ANSWER_BYTES_MAX:
                raise AnswerBroken("an answer of too many bytes")  # noqa: TRY301  # as what the parser calls does
            if len(data) <= _PIECE_BYTES:
                self._parse(data)
            else:
                for at in range(0, len(data), _PIECE_BYTES):
                    self._parse(data[at : at + _PIECE_BYTES])
        except httptools.HttpParserUpgrade:
            self.is_complete, self.may_stay = True, False
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._broke(cause if isinstance(cause, AnswerBroken) else AnswerBroken("no HTTP"))
        except AnswerBroken as error:
            self._broke(error)
        if self.is_complete:
            self._parser = None  # It refers to this answer.
            self.ended_s = self.ended_s or asyncio.get_running_loop().time()
        elif self._held_bytes > _HELD_BYTES_MAX and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def _parse(self, data: bytes) -> None:
        if self.is_complete or self._parser is None:
            self.has_surplus = True
            return
        self._unfinished_bytes += len(data)
        self._parser.feed_data(data)
        if self._is_in_extension:
            self._unfinished_bytes = 0
        elif self._unfinished_bytes > LINE_BYTES_MAX and not self.is_complete:
            raise AnswerBroken("a line of too many bytes")

    def ended(self, error: AnswerBroken) -> None:
        """The connection is over, which ends a body whose length was not said (RFC 9112, 6.3)."""
        is_framed = b"content-length" in self._headers or self._last_coding == b"chunked"
        if self.has_head and not is_framed and self.error is None:
            self.is_complete = True
        self._broke(error)
        self._parser = None
        self._wake()

    def _broke(self, error: AnswerBroken) -> None:
        if self.is_complete:
            self.has_surplus = True
        elif self.error is None:
            self.error = error

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        """A head begins; behind the answer it is one that nobody asked for."""
        self.has_surplus = self.is_complete

    def on_status(self, reason: bytes) -> None:
        """A piece of the reason phrase, which nobody needs."""
        if len(reason) > LINE_BYTES_MAX:
            raise AnswerBroken("a status line of too many bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of any head, or a trailer, which nobody needs."""
        self._unfinished_bytes = 0
        if len(name) + len(value) > LINE_BYTES_MAX:
            raise AnswerBroken("a header of too many bytes")
        if b"\0" in value:
            raise AnswerBroken("a header with a null byte")
        self._lines += 1
        if self._lines > HEADERS_MAX:
            raise AnswerBroken("too many headers")
        if self.has_head:
            return
        name = name.lower()
        if name == b"transfer-encoding":
            self._last_coding = value.rpartition(b",")[2].strip().lower()
        self._headers.setdefault(name, value)

    def on_headers_complete(self) -> None:
        """A head has come: the one that counts, or that of an interim answer (RFC 9110, 15.2)."""
        assert self._parser is not None
        self._unfinished_bytes = 0
        if self.is_complete:
            return
        self._heads += 1
        if self._heads > HEADS_MAX:
            raise AnswerBroken("too many heads")
        status = self._parser.get_status_code()
        if _INTERIM <= status < _FINAL and status != _SWITCHED:
            self._headers, self._last_coding, self._lines = {}, b"", 0
            return
        self.status, self.has_head, self._is_in_extension = status, True, True

    def on_chunk_header(self) -> None:
        """A chunk's size is over: what follows is its data, or a trailer."""
        self._is_in_extension = False

    def on_chunk_complete(self) -> None:
        """A chunk is over."""
        self._is_in_extension = True

    def on_body(self, received: bytes) -> None:
        """A piece of the body."""
        self._unfinished_bytes = 0
        if self.has_head and not self.is_complete:
            self._parts.append(received)
            self._held_bytes += len(received)

    def on_message_complete(self) -> None:
        """The answer has come whole, unless it was an interim one."""
        if self.has_head and not self.is_complete:
            assert self._parser is not None
            self.is_complete, self.may_stay = True, self._parser.should_keep_alive()
