"""The frames of one waiting request, between the bus and the task that answers its client.

Bounded by bytes: what does not fit is not kept, and is read from the request's stream once there
is room. All waits of the task end, because the sweep of ``waiters`` puts an end into every
mailbox.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ingress.replies.frame_order import Position, Verdict, broken_off, sequence
from schemas.frames import Chunk, Frame, Started, Terminal

BUFFER_BYTES: Final = 256 * 1024

SILENT_AFTER_S: Final = 2.0
"""A frame may be lost when nothing has come for so long."""

Content: TypeAlias = Started | Chunk | Terminal


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a wait, in seconds of the event loop's clock."""

    opened_s: float
    produce_by_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Awaited:
    """The request that an answer is waited for."""

    org: str
    request_id: str
    deadline_ms: int
    is_stream: bool
    incarnation_ms: int | None = None
    """The ``produce_by_ms`` of what was produced for this wait; ``None`` where another's was joined."""


class Mailbox:
    """Frames arrive by ``offer``, in any order; ``take`` hands them out in order, each once."""

    def __init__(
        self, awaited: Awaited, times: Times, ask_for_stream: Callable[[str], None]
    ) -> None:
        self.awaited = awaited
        self.request_id = awaited.request_id
        self.times = times
        self.taken_s = times.opened_s
        """When the task last took something, or was woken to ping."""
        self.is_produced = False
        self.is_refused_by_log = False
        """The broker did not acknowledge in time: whether it has the request is not known."""
        self.is_abandoned = False
        """This process ends before the request does."""
        self.is_client_gone = False
        self.is_behind = False
        """A frame was left in the stream for want of room."""
        self.read_s = 0.0
        """When its stream was last read whole."""
        self.ask_at_s = times.opened_s + SILENT_AFTER_S
        """When the ledger is asked what became of it, should nothing come before."""
        self.ended_s: float | None = None
        """Since when the ledger has known its end, of which no frame has come."""
        self._ask_for_stream = ask_for_stream
        self._position = Position()
        self._contents: deque[Content] = deque()
        self._buffered_bytes = 0
        self._waker: asyncio.Future[None] | None = None

    @property
    def cursor(self) -> str:
        """Id of the last frame taken in, in the request's stream."""
        return self._position.cursor

    @property
    def position(self) -> Position:
        """How far frames were taken in; another object after each."""
        return self._position

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come that is not taken, and more is to come."""
        return not (self._contents or self.is_behind or self._position.ended or self.is_client_gone)

    def ask_for_stream(self) -> None:
        """Have the request's stream read."""
        self._ask_for_stream(self.request_id)

    def offer(self, frame: Frame, *, is_stored: bool) -> None:
        """Take a frame in, from the channel or (``is_stored``) from the request's stream."""
        if self._buffered_bytes >= BUFFER_BYTES:
            self.is_behind = True
            return
        verdict, self._position = sequence(self._position, frame)
        if verdict is Verdict.RELAY:
            self._put(frame.content)
        elif verdict is Verdict.BREAK:
            self._put(broken_off())
        elif verdict is Verdict.GAP and is_stored:
            # A stream only grows at its end, so what is missing in it never comes.
            self.end(broken_off())
        elif verdict is Verdict.GAP:
            self._ask_for_stream(self.request_id)

    def end(self, terminal: Terminal) -> None:
        """End the wait from this side; nothing happens when it has ended."""
        if not self._position.ended:
            self._position = Position(self._position.fence, self._position.seq, ended=True)
            self._put(terminal)

    def leave(self) -> None:
        """The client is gone: the task shall stop without an answer."""
        self.is_client_gone = True
        self.wake()

    def wake(self) -> None:
        """Let ``take`` return, with nothing if there is nothing."""
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def take(self) -> list[Content]:
        """What has arrived, waiting if need be; empty when it was woken for another reason."""
        loop = asyncio.get_running_loop()
        if not self._contents and not self.is_client_gone:
            self._waker = loop.create_future()
            await self._waker
            self._waker = None
        self.taken_s = loop.time()
        taken = list(self._contents)
        self._contents.clear()
        self._buffered_bytes = 0
        if self.is_behind:
            self.is_behind = False
            self._ask_for_stream(self.request_id)
        return taken

    async def take_terminal(self) -> Terminal | None:
        """The end, dropping what comes before it; ``None`` when the client is gone."""
        while not self.is_client_gone:
            for content in await self.take():
                if isinstance(content, Terminal):
                    return content
        return None

    def _put(self, content: Content) -> None:
        self._contents.append(content)
        if not isinstance(content, Started):
            self._buffered_bytes += len(content.body)
        self.wake()
