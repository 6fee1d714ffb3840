"""Tells clients how their requests ended, beside everything else: nobody waits for the bus.

Bounded in number and bytes and a few seconds per reply; beyond that a reply is dropped. The outcome
stands in the log, and ingress finds it there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field

from schemas.claim_check import is_elsewhere
from schemas.events import RequestAccepted
from schemas.frames import Frame, Terminal
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.bodies import Bodies
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

REPLIES_MAX = 8_192
_BYTES_MAX = 8 * 1024 * 1024
_FRAME_BYTES = 256
"""What a frame weighs beside its texts."""
_BATCH_MAX = 256
_GIVE_UP_S = 3.0
_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class _Reply:
    frame: Frame
    reply_to: str | None
    kept: bool
    give_up_s: float
    size_bytes: int
    has_body: bool
    """Whether the bus may have the request's body, which nobody needs now."""


@dataclass(slots=True)
class ReplySender:
    """Sends terminal frames in the order in which they were offered, many in one round trip."""

    bus: Bus
    clock: Clock
    metrics: Metrics
    _waiting: deque[_Reply] = field(default_factory=deque)
    _bytes: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_full(self) -> bool:
        """Whether further replies are dropped."""
        return len(self._waiting) >= REPLIES_MAX or self._bytes >= _BYTES_MAX

    def offer(self, request: RequestAccepted, terminal: Terminal) -> None:
        """Send the end of a request that nobody ran, or drop it; whoever posted a job looks it up."""
        frame = Frame(request.request_id, 0, 1, terminal)
        has_body = is_elsewhere(request)
        self.put(frame, request.reply_to, kept=request.background, has_body=has_body)

    def put(
        self,
        frame: Frame,
        reply_to: str | None,
        *,
        kept: bool,
        has_body: bool = False,
    ) -> None:
        """Send the frame soon, or drop it."""
        if self.is_full:
            self._drop(frame.request_id, "too many replies wait")
            return
        size_bytes = _FRAME_BYTES + _text_bytes(frame)
        give_up_s = self.clock.monotonic_s() + _GIVE_UP_S
        self._waiting.append(_Reply(frame, reply_to, kept, give_up_s, size_bytes, has_body))
        self._bytes += size_bytes
        self._arrived.set()

    async def run(self) -> None:
        """Send what is offered, for ever."""
        while True:
            await self._arrived.wait()
            if not await self.send_waiting():
                await asyncio.sleep(_PAUSE_S)

    async def settled(self) -> None:
        """Returns once no reply waits, those included that are given up."""
        while self._waiting:  # noqa: ASYNC110  # only at the stop
            await asyncio.sleep(_PAUSE_S)

    async def send_waiting(self) -> bool:
        """Send one batch; False when the bus is away and replies wait for it."""
        count = min(len(self._waiting), _BATCH_MAX)
        batch = [self._waiting.popleft() for _ in range(count)]
        sent = await asyncio.gather(*(self._send(reply) for reply in batch), return_exceptions=True)
        again: list[_Reply] = []
        for reply, result in zip(batch, sent, strict=True):
            is_away = isinstance(result, StoreUnavailable)
            if is_away and self.clock.monotonic_s() < reply.give_up_s:
                again.append(reply)
                continue
            self._bytes -= reply.size_bytes
            if isinstance(result, StoreUnavailable | StoreError):
                self._drop(reply.frame.request_id, repr(result))
            elif isinstance(result, BaseException):
                # A frame that cannot be encoded is this reply's fault alone.
                _LOG.event(LogEvent.REPLY_DEFECT, request_id=reply.frame.request_id, defect=result)
                self._drop(reply.frame.request_id, repr(result))
        self._waiting.extendleft(reversed(again))
        if not self._waiting:
            self._arrived.clear()
        return not again

    def _send(self, reply: _Reply) -> Awaitable[bool]:
        sending = self.bus.send(reply.frame, reply.reply_to, kept=reply.kept)
        return self._drop_body_and(sending, reply) if reply.has_body else sending

    async def _drop_body_and(self, sending: Awaitable[bool], reply: _Reply) -> bool:
        _, is_sent = await asyncio.gather(Bodies(self.bus).drop(reply.frame.request_id), sending)
        return is_sent

    def _drop(self, request_id: str, reason: str) -> None:
        self.metrics.count("tallygate_replies_dropped_total")
        _LOG.event(LogEvent.REPLY_DROPPED, request_id=request_id, cause=reason)


def _text_bytes(frame: Frame) -> int:
    content = frame.content
    if not isinstance(content, Terminal):
        return 0
    return len(content.body) + len(content.error_message or "")
