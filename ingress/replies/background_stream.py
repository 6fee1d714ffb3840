"""Relays the events of a response that runs in the background, to however many listen, from wherever each of them is.

Its first events leave at once, before any frame. Whoever has some of them gets the others, under the same numbers. An end
that comes from this side, because frames are lost or this process ends, is not the end of the response: what ledger and log
know of that is told, and where they know none, an event of its own that says how to go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.types import Send

from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.apis.openai.responses.shown import shown_in
from ingress.http.event_ids import EventId, Had, left_of, numbered
from ingress.http.refusals import Headers, Refusal
from ingress.replies.event_stream import BeforeEnd, StreamAnswer
from ingress.replies.mailbox import Content, Mailbox
from schemas.errors import ErrorCode
from schemas.frames import Chunk, Started, Terminal
from schemas.operations import RESPONSES

__all__ = ["BackgroundStream", "KnownEnd"]

KnownEnd = Callable[[], Awaitable[Terminal | None]]
"""The end of the response as ledger and log have it; ``None`` where they have none that could be told here."""

_STOPPED: Final = Refusal(
    ErrorCode.SERVICE_UNAVAILABLE,
    "No more events come here, whatever becomes of the response: GET it, with stream and starting_after to go on.",
)


class BackgroundStream(StreamAnswer):
    """The events of one response, or those that its client does not have."""

    def __init__(
        self,
        mailbox: Mailbox,
        form: ResponseFormat,
        send: Send,
        more: Headers,
        state: dict[str, Any],
        known_end: KnownEnd,
        after: EventId | int | None = None,
    ) -> None:
        super().__init__(mailbox, form, RESPONSES.surface, send, more, state)
        self._form = form
        self._known_end = known_end
        self._had = Had(after)
        self._is_stopped = False
        """Whether it ends here, and not there."""

    async def relay(self, before_end: BeforeEnd) -> Terminal | None:
        """Relay until the end, which is returned, or until the client is gone."""
        await self._write(self._left(self._form.opening(), 0, 0))
        return await super().relay(before_end)

    async def _relay(self, contents: list[Content], terminal: Terminal | None) -> None:
        for content in contents:
            if isinstance(content, Started) and content.shown is not None:
                shown = shown_in(content.shown)
                self._form.members = self._form.members if shown is None else bytes(shown.members)
        if terminal is not None and not self._mailbox.taken_seqs[-1]:
            known = None if self._mailbox.is_abandoned else await self._known_end()
            self._is_stopped = known is None
            terminal = known or terminal
            contents = [*contents[:-1], terminal]
        await super()._relay(contents, terminal)

    def _end(self, terminal: Terminal, refusal: Refusal | None) -> bytes:
        had = self._had
        if self._is_stopped:
            return self._form.interrupted(_STOPPED, had.number)
        end = super()._end(terminal, refusal)
        left = left_of(end, had.beyond(None, end))
        if had.number >= had.told:
            last = had.told - 1
            return self._form.interrupted(_beyond(last), last)
        return left

    def _events(self, chunk: Chunk, seq: int) -> bytes:
        return self._left(self._form.events(chunk.body), self._mailbox.position.fence, seq)

    def _left(self, events: bytes, fence: int, seq: int) -> bytes:
        frame = b"%b/%d-%d" % (self._mailbox.request_id.encode(), fence, seq)
        return numbered(events, frame, self._had.beyond(seq, events))


def _beyond(last: int) -> Refusal:
    message = f"starting_after is beyond the last event of the response, which is {last}."
    return Refusal(ErrorCode.INVALID_REQUEST, message, param="starting_after")
