"""Relays one stream: what is good of it leaves first, whatever follows it.

Its first content is announced to the ledger before it leaves, so that no second attempt can start once the
client has seen a byte. What is waited for the ledger or the bus is no silence of the backend's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final

from dispatcher.abort import Abort
from dispatcher.attempts.gathered import Gathered
from dispatcher.attempts.patience import Patience
from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.operations.binding import StreamReader
from dispatcher.replies import ReplyStream
from dispatcher.upstream.answer import Answer, AnswerBroken
from dispatcher.upstream.upstream_failure import error_in_answer, stream_without_end, unreadable
from dispatcher.upstream.upstreams import pieces
from dispatcher.work import AdmittedRequest, Choice
from schemas.frames import Chunk, Started
from schemas.log_events import LogEvent
from schemas.rates import rates_of
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.valkey.store import StoreError

__all__ = ["NoteStreamed", "Relay"]

_LOG = EventLog(__name__)

_STORE_WAIT_S: Final = 7.0
"""What a store that hangs holds up one frame at most; a backend with less time is excused each time."""

_AFTER_DONE_S: Final = 0.25
"""How long the end of a body may take once its stream is complete: its connection is kept if it comes."""

NoteStreamed = Callable[[], Awaitable[bool]]
"""Tells the ledger that content is about to leave; False when the fence is no longer ours."""


@dataclass(slots=True)
class Relay:
    """Passes the events of one answer on to its client."""

    job: AdmittedRequest
    choice: Choice
    reader: StreamReader
    replies: ReplyStream
    note_streamed: NoteStreamed
    abort: Abort
    counter: TokenCounter
    patience: Patience
    clock: Clock
    gathered: Gathered | None = None
    """What has left, where the answer is kept."""
    tell: Callable[[bytes], bytes] | None = None
    """What becomes of events before they leave, where anything does."""
    first_token_at_ms: int | None = None
    has_streamed: bool = False
    """Whether the client may have seen content, so that nobody else may answer it."""
    is_broken: bool = False
    """Whether a frame was lost, so that none may follow."""
    _is_passing_on: bool = False
    """Whether something was read that no frame holds yet."""

    @property
    def is_whole(self) -> bool:
        """Whether the answer was read to its end, and all of it left."""
        return self.reader.done and not self._is_passing_on

    async def run(self, answer: Answer) -> bool:
        """Relay events as they come; what arrives while a frame is stored joins the next frame.

        True once the stream has ended well; False when it was ended early, as much of it read as may be.
        Raises what is wrong with it.
        """
        reader, torn = self.reader, None
        precision_s = min(1.0, self.choice.backend.silence_s / 20)
        try:
            async with aclosing(pieces(answer)) as body:
                async for received in body:
                    was_done = reader.done
                    if events := reader.feed(received):
                        await self._pass_on(events)
                        self.abort.moved_on(self._silent_until_s(), precision_s)
                    if reader.error is not None or reader.garbage is not None:
                        break
                    if reader.done and not was_done:
                        self.abort.ends_at(asyncio.get_running_loop().time() + _AFTER_DONE_S)
                    if reader.output.is_full:
                        await self.counter.fold(reader.output)
                    if self.abort.is_drained(len(received)):
                        return False
        except AnswerBroken as error:
            torn = error
        if events := reader.finish():
            await self._pass_on(events)
        self._judge(torn)
        return True

    def _silent_until_s(self) -> float:
        return self.patience.until_s(asyncio.get_running_loop().time())

    def _judge(self, torn: AnswerBroken | None) -> None:
        """Raises what is wrong with a stream that has ended; nothing is missing once it says that it is done,
        or why it ends, and its usage has come or could not."""
        reader = self.reader
        if reader.error is not None:
            raise error_in_answer(reader.error, has_begun=self.has_streamed)
        if reader.done or (reader.has_ended and (torn is None or reader.usage is not None)):
            return
        if torn is not None:
            raise torn
        if reader.garbage is not None:
            raise unreadable(str(reader.garbage), reader.said)
        raise stream_without_end(reader.said)

    async def _pass_on(self, events: bytes) -> None:
        """Send the events on, the first ones behind a note to the ledger.

        Once the fence or a frame is lost none follows: a client must not get a torn stream.
        """
        self._is_passing_on = True
        if self.tell is not None:
            events = self.tell(events)
        if self.gathered is not None:
            self.gathered.add(events)
        if self.first_token_at_ms is None:
            self.first_token_at_ms = self.clock.now_ms()
            with self._excused():
                if not await self.note_streamed():
                    self.abort.end("stale")
            self.has_streamed = True
            await self._send(self._started())
        await self._send(Chunk(events))
        self._is_passing_on = False

    def _started(self) -> Started:
        request = self.job.request
        shown = request.shown if request.background else None
        return Started(self.choice.backend_id, rates_of(self.job.admitted), shown)

    @contextmanager
    def _excused(self) -> Iterator[None]:
        """What is waited for inside is not the backend: only the deadline ends that."""
        self.abort.ends_at(self.patience.deadline_s)
        try:
            yield
        finally:
            self.abort.ends_at(self._silent_until_s())

    async def _send(self, content: Started | Chunk) -> None:
        if self.is_broken or self.abort.reason == "stale":
            self.replies.is_torn = True
            return
        try:
            if self.choice.backend.silence_s >= _STORE_WAIT_S:
                self.is_broken = not await self.replies.send(content)
            else:
                with self._excused():
                    self.is_broken = not await self.replies.send(content)
            if self.replies.is_full:
                with self._excused():
                    self.is_broken = not await self.replies.wait()
        except StoreError as error:
            _LOG.event(LogEvent.FRAMES_LOST, **of_request(self.job.request), error=error)
            self.is_broken = True
