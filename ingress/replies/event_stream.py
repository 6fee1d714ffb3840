"""Relays the frames of a streaming request as server-sent events.

No header goes out before the verdict, so that refusals keep their status; only after a long
silence do headers and pings go first. A stream ends with its end mark or with an error event,
never silently.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from starlette.types import Send

from ingress.apis.answer_format import (
    AnswerFormat,
    ping,
    rate_headers,
    refusal_of,
    terminal_headers,
)
from ingress.http.event_ids import EventId, numbered
from ingress.http.exchange import BODY_FOLLOWS
from ingress.http.middleware import GONE
from ingress.http.refusals import Headers, Refusal
from ingress.http.responses import refuse
from ingress.replies.mailbox import Content, Mailbox
from schemas.events import RateStatus
from schemas.frames import Chunk, Started, Terminal
from schemas.operations import Surface

BeforeEnd: TypeAlias = Callable[[Terminal], Awaitable[None]]
"""What is to be done before a client hears of the end."""

_EVENT_STREAM: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class StreamAnswer:
    """One streamed answer."""

    def __init__(
        self,
        mailbox: Mailbox,
        answer_format: AnswerFormat,
        surface: Surface,
        send: Send,
        more: Headers,
        state: dict[str, Any],
        after: EventId | None = None,
    ) -> None:
        self._state = state
        self._after = after
        self._mailbox = mailbox
        self._format = answer_format
        self._surface = surface
        self._send = send
        self._more = more
        self._has_headers = False

    async def relay(self, before_end: BeforeEnd) -> Terminal | None:
        """Relay until the end, which is returned, or until the client is gone."""
        terminal: Terminal | None = None
        while terminal is None:
            contents = await self._mailbox.take()
            if self._mailbox.is_client_gone:
                self._state["code"] = GONE
                return None
            if not contents:
                await self._write(ping(self._surface))
                continue
            last = contents[-1]
            terminal = last if isinstance(last, Terminal) else None
            if terminal is not None:
                await before_end(terminal)
            await self._relay(contents, terminal)
        return terminal

    async def _relay(self, contents: list[Content], terminal: Terminal | None) -> None:
        """Everything that has arrived leaves as one piece."""
        seqs = self._mailbox.taken_seqs
        events = [
            self._events(content, seq)
            for content, seq in zip(contents, seqs, strict=True)
            if isinstance(content, Chunk)
        ]
        refusal = refusal_of(terminal) if terminal is not None else None
        if refusal is not None and terminal is not None:
            if not self._has_headers and not events:
                self._state["rates"] = terminal.rates
                headers = [*terminal_headers(terminal), *self._more]
                await refuse(self._send, refusal, self._surface, self._state, headers)
                return
            self._state["code"] = refusal.code
        if terminal is not None:
            events.append(self._end(terminal, refusal))
        more = None
        if not self._has_headers:
            more, self._state["rates"] = _start_headers(contents)
        await self._write(b"".join(events), more, is_last=terminal is not None)

    def _end(self, terminal: Terminal, refusal: Refusal | None) -> bytes:
        """The last events."""
        if refusal is None:
            return self._format.last_events(terminal)
        return self._format.failed_events(refusal, self._state["request_id"])

    def _events(self, chunk: Chunk, seq: int) -> bytes:
        """The events of a frame, numbered; what a client has that came back is made once more, and left out."""
        events, after = self._format.events(chunk.body), self._after
        if after is not None and seq < after.seq:
            return b""
        beyond = after.place if after is not None and seq == after.seq else -1
        request_id, fence = self._mailbox.request_id, self._mailbox.position.fence
        return numbered(events, b"%b/%d-%d" % (request_id.encode(), fence, seq), beyond)

    async def _write(
        self, body: bytes, more: Headers | None = None, *, is_last: bool = False
    ) -> None:
        has_body = bool(body) or is_last
        if not self._has_headers:
            self._has_headers = True
            headers = [*_EVENT_STREAM, *(more or ()), *self._more]
            start = {"type": "http.response.start", "status": 200, "headers": headers}
            await self._send({**start, BODY_FOLLOWS: has_body})
        if has_body:
            await self._send({"type": "http.response.body", "body": body, "more_body": not is_last})


def _start_headers(contents: list[Content]) -> tuple[Headers, tuple[RateStatus, ...]]:
    """What the backend's first sign of life, or an end without one, tells for the headers, and of rates."""
    for content in contents:
        if isinstance(content, Started):
            limits = rate_headers(content.rates)
            return [*limits, (b"x-tallygate-backend", content.backend.encode())], content.rates
        if isinstance(content, Terminal):
            return terminal_headers(content), content.rates
    return [], ()
