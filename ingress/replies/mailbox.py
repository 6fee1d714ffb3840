"""Mailboxes: the frames of pending requests, between the bus and the tasks that answer their clients.

Bounded by bytes: what does not fit is not kept, and is read from the request's stream once there
is room. All waits of the tasks end, because ``Upkeep`` puts an end into every mailbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, TypeAlias

import msgspec

from ingress.replies.awaited import Awaited, Times
from ingress.replies.frame_order import Position, Verdict, broken_off, sequence
from schemas.errors import ErrorCode
from schemas.events import RecordRef
from schemas.frames import Chunk, Frame, Started, Terminal, decode_frame
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog, of_request

_LOG = EventLog(__name__)

BUFFER_BYTES: Final = 256 * 1024

SILENT_AFTER_S: Final = 2.0
"""A frame may be lost when nothing has come for so long."""

_STALLED_AFTER_S: Final = 0.5
_JOINED_POLL_S: Final = 0.15
"""Frames of a request that another ingress took in are announced there, not here."""

Content: TypeAlias = Started | Chunk | Terminal

ClientGone: TypeAlias = Callable[[], Awaitable[object]]
"""Returns once the client is gone."""


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
        self._contents: list[Content] = []
        self._seqs: list[int] = []
        self.taken_seqs: list[int] = []
        """Numbers of the frames that were taken last; 0 for an end of this side."""
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
            self._put(frame.content, frame.seq)
        elif verdict is Verdict.BREAK:
            self._put(broken_off())
        elif verdict is Verdict.GAP and is_stored:
            # A stream only grows at its end, so what is missing in it never comes.
            self.end(broken_off())
        elif verdict is Verdict.GAP:
            self._ask_for_stream(self.request_id)

    def take_in(self, frame: Frame, *, is_stored: bool) -> None:
        """``offer`` it; a frame that cannot be taken in ends its own request and no other."""
        try:
            self.offer(frame, is_stored=is_stored)
        except Exception as defect:  # noqa: BLE001  # the frames of all requests come this way
            _LOG.event(LogEvent.WAIT_DEFECT, **of_request(self.awaited), defect=defect)
            self.end_with(500, ErrorCode.INTERNAL_ERROR, "Something went wrong here.")

    def note_produced(self, produced: asyncio.Future[RecordRef]) -> None:
        """The broker has its record, or will not have it."""
        if produced.cancelled() or produced.exception() is not None:
            self.refuse_for_log()
        else:
            self.is_produced = True

    def refuse_for_log(self) -> None:
        """End the wait because the log did not take it in time."""
        self.is_refused_by_log = True
        message = "The request could not be queued in time."
        self.end_with(503, ErrorCode.SERVICE_UNAVAILABLE, message)

    def abandon(self) -> None:
        """End the wait because this process ends; what it waits for may run on."""
        self.is_abandoned = True
        message = "This ingress is being stopped; send the request again."
        self.end_with(503, ErrorCode.SERVICE_UNAVAILABLE, message)

    def end_with(self, status: int, code: ErrorCode, message: str) -> None:
        """End the wait with an error of this side."""
        self.end(Terminal(http_status=status, error_code=code, error_message=message))

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
        contents, self._contents = self._contents, []
        self.taken_seqs, self._seqs = self._seqs, []
        self._buffered_bytes = 0
        if self.is_behind:
            self.is_behind = False
            self._ask_for_stream(self.request_id)
        return contents

    async def take_terminal(self) -> Terminal | None:
        """The end, dropping what comes before it; ``None`` when the client is gone."""
        while not self.is_client_gone:
            for content in await self.take():
                if isinstance(content, Terminal):
                    return content
        return None

    def _put(self, content: Content, seq: int = 0) -> None:
        self._contents.append(content)
        self._seqs.append(seq)
        if not isinstance(content, Started):
            self._buffered_bytes += len(content.body)
        self.wake()


@dataclass(slots=True)
class Wait:
    """A mailbox, and who waits at it."""

    mailbox: Mailbox
    gone: ClientGone
    task: asyncio.Task[None] | None
    poll_every_s: float
    """How often its stream is read when nothing comes."""
    poll_at_s: float
    position: Position
    """Of the mailbox, when it was last looked after."""
    watcher: asyncio.Task[None] | None = None
    """Listens for the client's disconnection; only requests that take long get one."""


@dataclass(slots=True)
class PendingRequests:
    """All requests that wait here: opens and closes their mailboxes, and delivers frames to them."""

    waits: dict[str, list[Wait]] = field(default_factory=dict)
    """Several for a request that others have joined."""
    to_read: dict[str, None] = field(default_factory=dict)
    """Requests whose streams are to be read, in the order in which they asked."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while there are any."""
    is_abandoned: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.waits.values()))

    def __iter__(self) -> Iterator[Wait]:
        return chain.from_iterable(self.waits.values())

    def open(
        self,
        awaited: Awaited,
        gone: ClientGone,
        times: Times,
        produced: asyncio.Future[RecordRef],
    ) -> Mailbox:
        """The mailbox of a request whose body was read; the calling task must ``close`` it."""
        mailbox = self._wait(awaited, gone, times, _STALLED_AFTER_S)
        produced.add_done_callback(mailbox.note_produced)
        return mailbox

    def join(self, awaited: Awaited, gone: ClientGone, times: Times) -> Mailbox:
        """A mailbox for all frames, from the first on, of a request that was taken in before."""
        mailbox = self._wait(awaited, gone, times, _JOINED_POLL_S)
        mailbox.is_produced = True
        mailbox.ask_for_stream()
        return mailbox

    def _wait(self, awaited: Awaited, gone: ClientGone, times: Times, poll_s: float) -> Mailbox:
        mailbox = Mailbox(awaited, times, self.ask_for_stream)
        poll_at_s = times.opened_s + poll_s
        task = asyncio.current_task()
        wait = Wait(mailbox, gone, task, poll_s, poll_at_s, mailbox.position)
        self.waits.setdefault(awaited.request_id, []).append(wait)
        if self.is_abandoned:
            mailbox.abandon()
        return mailbox

    def close(self, mailbox: Mailbox) -> None:
        """Forget the wait."""
        waits = self.waits[mailbox.request_id]
        wait = next(wait for wait in waits if wait.mailbox is mailbox)
        waits.remove(wait)
        if not waits:
            del self.waits[mailbox.request_id]
        if wait.watcher is not None:
            # Its task ends with an error whose frames hold the wait, which must not hold the task: all that a
            # request was would be left to the collector.
            wait.watcher.cancel()
            wait.watcher = None

    def on_message(self, message: bytes) -> None:
        """Deliver a frame of the channel; frames of requests that nobody waits for are dropped."""
        try:
            frame = decode_frame(message)
        except msgspec.DecodeError as error:
            _LOG.event(LogEvent.FRAME_MALFORMED, error=error)
            return
        for wait in self.waits.get(frame.request_id, ()):
            wait.mailbox.take_in(frame, is_stored=False)

    def on_subscribed(self) -> None:
        """Read all streams: the channel kept nothing of what was sent while nobody listened."""
        for request_id in self.waits:
            self.ask_for_stream(request_id)

    def ask_for_stream(self, request_id: str) -> None:
        """Have the stream of a request read."""
        self.to_read[request_id] = None
        self.asked.set()

    def abandon(self) -> None:
        """End all waits, also those to come, because this process ends; what they wait for may run on."""
        self.is_abandoned = True
        for wait in self:
            wait.mailbox.abandon()

    def silent(self, now_s: float) -> Iterator[Mailbox]:
        """Those to which nothing has come for so long that its end may be lost."""
        for wait in self:
            if now_s >= wait.mailbox.ask_at_s and wait.mailbox.is_silent:
                yield wait.mailbox
