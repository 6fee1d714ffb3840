"""Bodies: how many bytes of them ingress holds at once, whose turn it is when they are all taken, and
within which bounds of size and time one is read.

A body counts from before it is read until the broker has its record. Small ones pass while there is
room at all; large ones leave some of it to them, wait a moment in a queue that takes organizations in
turn, and are then told when to come again. No organization holds more than a fourth.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import Message, Receive

from ingress.gatekeeper.turn import came_in_time
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode

SMALL_BYTES_MAX: Final = 64 * 1024
WAIT_S: Final = 3.0
"""How long a client may be kept waiting before its body is read."""
_WAITING_MAX: Final = 256
_SHARE: Final = 4
_FOR_SMALL: Final = 8
"""One part in so many is kept for small bodies."""
_FLOW_BYTES_PER_S: Final = 16 * 1024 * 1024
"""About what one process takes in, parses and hands to the log; what retry hints count with."""
_RETRY_MS: Final = (500, 30_000)
_BODY_WITHIN_S: Final = 30.0
_BODY_BEGUN_WITHIN_S: Final = 5.0
_BODY_BYTES_PER_S_MIN: Final = 8 * 1024
"""Every so many bytes earn a body another second, from the first five up to the thirtieth."""


class BodyHold:
    """The room that one body takes; given back once, whoever says so first."""

    def __init__(self, size: int, give_back: Callable[[int], None]) -> None:
        self._size = size
        self._give_back = give_back
        self._is_handed_over = False
        self._at_release: Callable[[], None] | None = None

    def then(self, at_release: Callable[[], None]) -> None:
        """What else is over when the room is given back."""
        self._at_release = at_release

    def shrink(self, size: int) -> None:
        """The body turned out to be smaller than it was announced."""
        if size < self._size:
            self._give_back(self._size - size)
            self._size = size

    def release_after(self, delivered: asyncio.Future[Any]) -> None:
        """Hold the room until the body is in the log, or will never be."""
        self._is_handed_over = True
        delivered.add_done_callback(lambda _: self._release())

    def release(self) -> None:
        """Give the room back, unless the body is on its way to the log."""
        if not self._is_handed_over:
            self._release()

    def _release(self) -> None:
        size, self._size = self._size, 0
        if size:
            self._give_back(size)
        if self._at_release is not None:
            self._at_release()


@dataclass(slots=True, eq=False)
class _Waiting:
    size: int
    turn: asyncio.Future[None]


@dataclass(slots=True)
class BodyBudget:
    """Room for bodies, ``total_bytes`` of it."""

    total_bytes: int
    held_bytes: int = 0
    _held_of: dict[str, int] = field(default_factory=dict)
    """Bytes of large bodies, by organization."""
    _large_bytes: int = 0
    _queues: dict[str, deque[_Waiting]] = field(default_factory=dict)
    """In the order of their turns."""
    _waiting: int = 0
    _waiting_bytes: int = 0

    def bounds_reached(self) -> dict[str, str]:
        """The bound, when bodies wait for room."""
        if not self._waiting:
            return {}
        return {"body_budget": f"{self._waiting} bodies wait beside {self.held_bytes} bytes"}

    async def take(self, org: str, size: int) -> BodyHold | Refusal:
        """Room for a body that may have ``size`` bytes, now or within a second."""
        if size <= SMALL_BYTES_MAX:
            if self.held_bytes + size > self.total_bytes:
                return self._refused()
            self.held_bytes += size
            return BodyHold(size, self._give_back_small)
        if org not in self._queues and self._has_room(org, size):
            return self._hold(org, size)
        if self._waiting >= _WAITING_MAX or not await self._wait(org, size):
            return self._refused()
        return BodyHold(size, lambda given: self._give_back(org, given))

    async def _wait(self, org: str, size: int) -> bool:
        """Whether the room was given in time."""
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._queues.setdefault(org, deque()).append(waiting)
        self._count(1, size)
        return await came_in_time(
            waiting.turn,
            WAIT_S,
            lambda: self._give_back(org, size),
            lambda: self._leave_queue(org, waiting),
        )

    def _leave_queue(self, org: str, waiting: _Waiting) -> None:
        queue = self._queues.get(org)
        if queue is None or waiting not in queue:
            return  # Its turn came after it had given up, and passed.
        queue.remove(waiting)
        self._count(-1, -waiting.size)
        if not queue:
            del self._queues[org]

    def _count(self, waiting: int, size: int) -> None:
        self._waiting += waiting
        self._waiting_bytes += size

    def _has_room(self, org: str, size: int) -> bool:
        """Whether the large body fits: a lone one always may, however small the share."""
        of_org = self._held_of.get(org, 0)
        most = self.total_bytes - self.total_bytes // _FOR_SMALL
        fits_share = of_org + size <= self.total_bytes // _SHARE or not of_org
        fits = self._large_bytes + size <= most and self.held_bytes + size <= self.total_bytes
        return fits_share and (fits or not self._large_bytes)

    def _hold(self, org: str, size: int) -> BodyHold:
        self._add(org, size)
        return BodyHold(size, lambda given: self._give_back(org, given))

    def _add(self, org: str, size: int) -> None:
        self.held_bytes += size
        self._large_bytes += size
        of_org = self._held_of.get(org, 0) + size
        if of_org:
            self._held_of[org] = of_org
        else:
            del self._held_of[org]

    def _give_back_small(self, size: int) -> None:
        self.held_bytes -= size
        self._next_turns()

    def _give_back(self, org: str, size: int) -> None:
        self._add(org, -size)
        self._next_turns()

    def _next_turns(self) -> None:
        """Let in what fits, one body of each organization at a time."""
        missed = 0
        while self._queues and missed < len(self._queues):
            org = next(iter(self._queues))
            queue = self._queues.pop(org)
            if queue[0].turn.cancelled():
                self._count(-1, -queue.popleft().size)
            elif self._has_room(org, queue[0].size):
                missed = 0
                waiting = queue.popleft()
                self._count(-1, -waiting.size)
                self._add(org, waiting.size)
                waiting.turn.set_result(None)
            else:
                missed += 1
            if queue:
                self._queues[org] = queue

    def _refused(self) -> Refusal:
        ahead_bytes = self.held_bytes + self._waiting_bytes
        least_ms, most_ms = _RETRY_MS
        wait_ms = min(most_ms, max(least_ms, 1_000 * ahead_bytes // _FLOW_BYTES_PER_S))
        message = "The gateway holds as many bodies as it can."
        return Refusal(ErrorCode.OVERLOADED, message, retry_after_ms=wait_ms)


def most_bytes(headers: Mapping[bytes, bytes], announced: int | None, max_bytes: int) -> int:
    """How large the body may get: as announced, or as any may when it comes in chunks. One that is
    announced as too large is refused anyway."""
    if announced is None:
        return max_bytes if b"transfer-encoding" in headers else 0
    return announced if announced <= max_bytes else 0


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int
) -> bytes | Refusal | None:
    """The request's body; ``None`` when the client left before it was complete.

    Size is counted as it arrives, because a chunked body announces none.
    """
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and _exceeds(announced, max_bytes):
        return _too_large(max_bytes)
    message = at_once(receive())
    if message is not None and not message.get("more_body", False):
        return _whole(message, max_bytes)
    return await _read_slowly(message, receive, max_bytes)


def at_once(waiting: Awaitable[Message]) -> Message | None:
    """What would be received without waiting for it; ``None``, and nothing is lost, where it has not come."""
    steps = waiting.__await__()
    try:
        next(steps)
    except StopIteration as received:
        message: Message = received.value
        return message
    steps.close()
    return None


def _whole(message: Message, max_bytes: int) -> bytes | Refusal | None:
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    return body if len(body) <= max_bytes else _too_large(max_bytes)


async def _read_slowly(
    message: Message | None, receive: Receive, max_bytes: int
) -> bytes | Refusal | None:
    """A body of which at most a part is there, each of which earns it more time."""
    parts: list[bytes] = []
    size = 0
    begun_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(begun_s + _BODY_BEGUN_WITHIN_S) as time_left:
            while True:
                message = message or await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    return _too_large(max_bytes)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
                message = None
                earned_s = _BODY_BEGUN_WITHIN_S + size / _BODY_BYTES_PER_S_MIN
                time_left.reschedule(begun_s + min(_BODY_WITHIN_S, earned_s))
    except TimeoutError:
        message_text = f"The body came too slowly: {size} bytes of it arrived."
        return Refusal(ErrorCode.BODY_TOO_SLOW, message_text)


def _exceeds(digits: bytes, limit: int) -> bool:
    """Compares lengths first, because reading a very long number takes quadratic time."""
    return len(digits) > len(str(limit)) + 1 or int(digits) > limit


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(ErrorCode.BODY_TOO_LARGE, f"The body is larger than {max_bytes} bytes.")
