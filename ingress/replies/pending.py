"""All requests that wait for an answer, and what keeps them from waiting in vain.

Frames come over one channel; the streams are read for a request that missed one, for all after
every (re)subscription, and for whoever has made no progress for half a second. One sweep, not a
timer for each request, ends waits at their deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, TypeAlias

import msgspec

from ingress.replies.frame_order import Position
from ingress.replies.mailbox import SILENT_AFTER_S, Awaited, Mailbox, Times
from schemas.errors import ErrorCode
from schemas.events import RecordRef
from schemas.frames import Frame, Terminal, decode_frame
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = logging.getLogger(__name__)

PING_AFTER_S: Final = 15.0
_SWEEP_PERIOD_S: Final = 0.1
_WATCH_AFTER_S: Final = 0.1
"""A request that takes longer than that is one whose client is worth listening to."""
_STALLED_AFTER_S: Final = 0.5
_JOINED_POLL_S: Final = 0.15
"""Frames of a request that another ingress took in are announced there, not here."""
_DEADLINE_GRACE_S: Final = 0.4
"""The workers end a request at its deadline too, and know better why; their answer goes first."""
_ABANDON_AFTER_S: Final = 30.0
"""How long after its deadline a client that does not read keeps its connection."""
_READS_AT_ONCE: Final = 256
_FRAMES_PER_READ: Final = 256

ClientGone: TypeAlias = Callable[[], Awaitable[object]]
"""Returns once the client is gone."""


@dataclass(slots=True)
class _Wait:
    mailbox: Mailbox
    gone: ClientGone
    task: asyncio.Task[None] | None
    poll_every_s: float
    poll_at_s: float
    position: Position
    """Of the mailbox, when it was last looked after."""
    watcher: asyncio.Task[None] | None = None
    """Listens for the client's disconnection; only requests that take long get one."""


class PendingRequests:
    """Opens and closes mailboxes and delivers frames to them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waits: dict[str, list[_Wait]] = {}
        """Several for a request that others have joined."""
        self._to_read: dict[str, None] = {}
        self._asked = asyncio.Event()
        self._is_abandoned = False
        self.unproduced_s = 0.0
        """Age of the oldest request that the broker had not acknowledged at the last sweep."""

    def __len__(self) -> int:
        return sum(map(len, self._waits.values()))

    def open(
        self,
        awaited: Awaited,
        gone: ClientGone,
        times: Times,
        produced: asyncio.Future[RecordRef],
    ) -> Mailbox:
        """The mailbox of a request whose body was read; the calling task must ``close`` it."""
        mailbox = self._wait(awaited, gone, times, _STALLED_AFTER_S)
        produced.add_done_callback(lambda future: _note_produced(mailbox, future))
        return mailbox

    def join(self, awaited: Awaited, gone: ClientGone, times: Times) -> Mailbox:
        """A mailbox for all frames, from the first on, of a request that was taken in before."""
        mailbox = self._wait(awaited, gone, times, _JOINED_POLL_S)
        mailbox.is_produced = True
        mailbox.ask_for_stream()
        return mailbox

    def _wait(self, awaited: Awaited, gone: ClientGone, times: Times, poll_s: float) -> Mailbox:
        mailbox = Mailbox(awaited, times, self._ask_for_stream)
        poll_at_s = times.opened_s + poll_s
        task = asyncio.current_task()
        wait = _Wait(mailbox, gone, task, poll_s, poll_at_s, mailbox.position)
        self._waits.setdefault(awaited.request_id, []).append(wait)
        if self._is_abandoned:
            _abandon(mailbox)
        return mailbox

    def close(self, mailbox: Mailbox) -> None:
        """Forget the wait."""
        waits = self._waits[mailbox.request_id]
        wait = next(wait for wait in waits if wait.mailbox is mailbox)
        waits.remove(wait)
        if not waits:
            del self._waits[mailbox.request_id]
        if wait.watcher is not None:
            wait.watcher.cancel()

    def on_message(self, message: bytes) -> None:
        """Deliver a frame of the channel; frames of requests that nobody waits for are dropped."""
        try:
            frame = decode_frame(message)
        except msgspec.DecodeError as error:
            _LOG.error("a frame on the channel is malformed: %s", error)
            return
        for wait in self._waits.get(frame.request_id, ()):
            _offer(wait.mailbox, frame, is_stored=False)

    def on_subscribed(self) -> None:
        """Read all streams: the channel kept nothing of what was sent while nobody listened."""
        for request_id in self._waits:
            self._ask_for_stream(request_id)

    def abandon(self) -> None:
        """End all waits, also those to come, because this process ends; what they wait for may run on."""
        self._is_abandoned = True
        for wait in self._all():
            _abandon(wait.mailbox)

    async def sweep_forever(self) -> None:
        """Look at all waits ten times a second."""
        while True:
            await asyncio.sleep(_SWEEP_PERIOD_S)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, now_s: float) -> None:
        """End, wake or have read whatever is due at ``now_s``."""
        oldest_s = now_s
        for wait in list(self._all()):
            try:
                self._sweep(wait, now_s)
            except Exception:  # noqa: BLE001  # a defect for one ends no other's deadline
                _LOG.exception("the wait for %s was not looked after", wait.mailbox.request_id)
            if not wait.mailbox.is_produced:
                oldest_s = min(oldest_s, wait.mailbox.times.opened_s)
        self.unproduced_s = now_s - oldest_s

    def silent(self, now_s: float) -> Iterator[Mailbox]:
        """Those to which nothing has come for so long that its end may be lost."""
        for wait in self._all():
            if now_s >= wait.mailbox.ask_at_s and wait.mailbox.is_silent:
                yield wait.mailbox

    def _all(self) -> Iterator[_Wait]:
        return chain.from_iterable(self._waits.values())

    def _sweep(self, wait: _Wait, now_s: float) -> None:
        mailbox, times = wait.mailbox, wait.mailbox.times
        if now_s >= times.deadline_s + _ABANDON_AFTER_S and wait.task is not None:
            wait.task.cancel()
        elif now_s >= times.deadline_s + _DEADLINE_GRACE_S:
            mailbox.end(_error(504, ErrorCode.DEADLINE_EXCEEDED, "The deadline passed."))
        elif now_s >= times.produce_by_s and not mailbox.is_produced:
            _refuse_for_log(mailbox)
        elif now_s - mailbox.taken_s >= PING_AFTER_S:
            mailbox.wake()
        if mailbox.position is not wait.position:
            wait.position = mailbox.position
            mailbox.ask_at_s = now_s + SILENT_AFTER_S
        if now_s >= max(wait.poll_at_s, mailbox.taken_s + wait.poll_every_s):
            wait.poll_at_s = now_s + wait.poll_every_s
            self._ask_for_stream(mailbox.request_id)
        if wait.watcher is None and now_s - times.opened_s >= _WATCH_AFTER_S:
            wait.watcher = asyncio.create_task(_watch_client(wait))

    def _ask_for_stream(self, request_id: str) -> None:
        self._to_read[request_id] = None
        self._asked.set()

    async def catch_up_forever(self) -> None:
        """Read the streams that were asked for, a bounded number at a time."""
        while True:
            await self._asked.wait()
            batch = list(islice(self._to_read, _READS_AT_ONCE))
            for request_id in batch:
                del self._to_read[request_id]
            if not self._to_read:
                self._asked.clear()
            await self._catch_up(wait for name in batch for wait in self._waits.get(name, ()))

    async def _catch_up(self, waits: Iterable[_Wait]) -> None:
        reads = [self._read(wait.mailbox) for wait in waits]
        for failure in await asyncio.gather(*reads, return_exceptions=True):
            if isinstance(failure, Exception):
                # A defect for one request; the sweep asks for its stream again.
                _LOG.error("a stream could not be read", exc_info=failure)

    async def _read(self, mailbox: Mailbox) -> None:
        # A bus that does not answer now is asked again by the sweep.
        with suppress(StoreUnavailable, StoreError, msgspec.DecodeError):
            frames = await self._bus.read(mailbox.request_id, mailbox.cursor, _FRAMES_PER_READ)
            for frame in frames:
                _offer(mailbox, frame, is_stored=True)
            if len(frames) < _FRAMES_PER_READ:
                mailbox.read_s = asyncio.get_running_loop().time()
            elif not mailbox.is_behind:
                self._ask_for_stream(mailbox.request_id)


def _offer(mailbox: Mailbox, frame: Frame, *, is_stored: bool) -> None:
    """Hand a frame over; one that cannot be taken in ends its own request and no other."""
    try:
        mailbox.offer(frame, is_stored=is_stored)
    except Exception:  # noqa: BLE001  # the frames of all requests come this way
        _LOG.exception("a frame of %s could not be taken in", mailbox.request_id)
        mailbox.end(_error(500, ErrorCode.INTERNAL_ERROR, "Something went wrong here."))


def _note_produced(mailbox: Mailbox, produced: asyncio.Future[RecordRef]) -> None:
    if produced.cancelled() or produced.exception() is not None:
        _refuse_for_log(mailbox)
    else:
        mailbox.is_produced = True


async def _watch_client(wait: _Wait) -> None:
    await wait.gone()
    wait.mailbox.leave()


def _abandon(mailbox: Mailbox) -> None:
    mailbox.is_abandoned = True
    message = "This ingress is being stopped; send the request again."
    mailbox.end(_error(503, ErrorCode.SERVICE_UNAVAILABLE, message))


def _refuse_for_log(mailbox: Mailbox) -> None:
    mailbox.is_refused_by_log = True
    message = "The request could not be queued in time."
    mailbox.end(_error(503, ErrorCode.SERVICE_UNAVAILABLE, message))


def _error(status: int, code: ErrorCode, message: str) -> Terminal:
    return Terminal(http_status=status, error_code=code, error_message=message)
