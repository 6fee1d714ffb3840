"""Looks after pending requests, so that none waits in vain.

The streams are read for a request that missed a frame, for all after every (re)subscription, and for whoever
has made no progress for half a second. One sweep, not a timer for each request, ends waits at their deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from ingress.replies.mailbox import SILENT_AFTER_S, Mailbox, PendingRequests, Wait
from schemas.errors import ErrorCode
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

PING_AFTER_S: Final = 15.0
_SWEEP_PERIOD_S: Final = 0.1
_WATCH_AFTER_S: Final = 0.1
"""A request that takes longer than that is one whose client is worth listening to."""
_DEADLINE_GRACE_S: Final = 0.4
"""The workers end a request at its deadline too, and know better why; their answer goes first."""
_ABANDON_AFTER_S: Final = 30.0
"""How long after its deadline a client that does not read keeps its connection."""
_READS_AT_ONCE: Final = 256
_FRAMES_PER_READ: Final = 256


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Sweeps pending requests, and reads their streams from the bus."""

    pending: PendingRequests
    bus: Bus

    async def sweep_forever(self) -> None:
        """Look at all waits ten times a second."""
        while True:
            await asyncio.sleep(_SWEEP_PERIOD_S)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, now_s: float) -> None:
        """End, wake or have read whatever is due at ``now_s``."""
        for wait in list(self.pending):
            try:
                self._sweep(wait, now_s)
            except Exception as defect:  # noqa: BLE001  # a defect for one ends no other's deadline
                _LOG.event(LogEvent.WAIT_DEFECT, **of_request(wait.mailbox.awaited), defect=defect)

    def _sweep(self, wait: Wait, now_s: float) -> None:
        mailbox, times = wait.mailbox, wait.mailbox.times
        if now_s >= times.deadline_s + _ABANDON_AFTER_S and wait.task is not None:
            wait.task.cancel()
        elif now_s >= times.deadline_s + _DEADLINE_GRACE_S:
            mailbox.end_with(504, ErrorCode.DEADLINE_EXCEEDED, "The deadline passed.")
        elif now_s >= times.produce_by_s and not mailbox.is_produced:
            mailbox.refuse_for_log()
        elif now_s - mailbox.taken_s >= PING_AFTER_S:
            mailbox.wake()
        if mailbox.position is not wait.position:
            wait.position = mailbox.position
            mailbox.ask_at_s = now_s + SILENT_AFTER_S
        if now_s >= max(wait.poll_at_s, mailbox.taken_s + wait.poll_every_s):
            wait.poll_at_s = now_s + wait.poll_every_s
            self.pending.ask_for_stream(mailbox.request_id)
        if wait.watcher is None and now_s - times.opened_s >= _WATCH_AFTER_S:
            wait.watcher = asyncio.create_task(_watch_client(wait))

    async def catch_up_forever(self) -> None:
        """Read the streams that were asked for, a bounded number at a time."""
        while True:
            await self.pending.asked.wait()
            batch = list(islice(self.pending.to_read, _READS_AT_ONCE))
            for request_id in batch:
                del self.pending.to_read[request_id]
            if not self.pending.to_read:
                self.pending.asked.clear()
            await self._catch_up(
                wait for name in batch for wait in self.pending.waits.get(name, ())
            )

    async def _catch_up(self, waits: Iterable[Wait]) -> None:
        mailboxes = [wait.mailbox for wait in waits]
        reads = (self._read(mailbox) for mailbox in mailboxes)
        results = await asyncio.gather(*reads, return_exceptions=True)
        for mailbox, result in zip(mailboxes, results, strict=True):
            if isinstance(result, Exception):
                # A defect for one request; the sweep asks for its stream again.
                _LOG.event(LogEvent.WAIT_DEFECT, **of_request(mailbox.awaited), defect=result)

    async def _read(self, mailbox: Mailbox) -> None:
        # A bus that does not answer now is asked again by the sweep.
        with suppress(StoreUnavailable, StoreError, msgspec.DecodeError):
            frames = await self.bus.read(mailbox.request_id, mailbox.cursor, _FRAMES_PER_READ)
            for frame in frames:
                mailbox.take_in(frame, is_stored=True)
            if len(frames) < _FRAMES_PER_READ:
                mailbox.read_s = asyncio.get_running_loop().time()
            elif not mailbox.is_behind:
                self.pending.ask_for_stream(mailbox.request_id)


async def _watch_client(wait: Wait) -> None:
    await wait.gone()
    wait.mailbox.leave()
