"""Gives out the slots: a request waits until the process and a backend of its route both have one free.

Both are taken together, so nobody holds a process slot while it waits for a full backend. Lines are
served in turn; one whose backends are full does not hold up another. One timer for all looks after
who has waited for too long. The decisions are ``scheduling``'s and ``backends``'.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from dispatcher.abort import Abort
from dispatcher.backends.breaker import CallEnd
from dispatcher.backends.registry import Backends, Slot
from dispatcher.backends.scheduling import WAIT_MAX_S, Line, ServedRate, Waiting
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted
from schemas.log_events import LogEvent
from schemas.readiness import DEGRADED
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

_LOG = EventLog(__name__)

TICK_S = 0.1
RETRY_WAIT_S = 2.0
"""A second attempt waits no longer: the first one's failure is an answer, too."""
_WAIT_MIN_S = 1.0
_SHEDDING_SHOWN_S = 5.0


class NoSlot(msgspec.Struct, frozen=True):
    """Why there is no call. ``code`` is ``None`` when it was ended, or its deadline passed."""

    code: ErrorCode | None
    retry_after_ms: int | None = None


class SlotRequest(msgspec.Struct, frozen=True):
    """A call that is to be made."""

    request: RequestAccepted
    abort: Abort
    admitted_at_ms: int
    """Since when it waits: what it spent in the log is a wait, too; what its claim took is none."""
    tried: tuple[str, ...] = ()
    """Backends that failed it; whoever has some is a second attempt."""

    @property
    def tokens(self) -> int:
        """What it counts for in a fair queue: the bound of its input and output."""
        return self.request.input_tokens_bound + self.request.output_tokens_bound


@dataclass(frozen=True, slots=True)
class _Asked:
    """What waits in a line."""

    wanted: SlotRequest
    answer: asyncio.Future[Slot | NoSlot]


_Key: TypeAlias = tuple[str, tuple[str, ...]]
"""A line: model, and the backends that were tried."""


@dataclass(slots=True)
class Slots:
    """All lines of this process."""

    backends: Backends
    metrics: Metrics
    clock: Clock
    _lines: dict[_Key, Line[_Asked]] = field(default_factory=dict)
    _turns: deque[_Key] = field(default_factory=deque)
    _timer: asyncio.TimerHandle | None = None
    _shed_at_s: float | None = None
    background_at_s: float | None = None
    """When background work last asked for a slot: whoever lets more of it in wants to know soon what is free."""

    async def take(self, wanted: SlotRequest) -> Slot | NoSlot:
        """A slot for the call, as soon as it is its turn."""
        model, tried = key = wanted.request.model, wanted.tried
        if wanted.request.background:
            self.background_at_s = self.clock.monotonic_s()
        if not self._lines.get(key):
            found = self.backends.take(model, tried, is_retry=bool(tried))
            if isinstance(found, Slot):
                found.streams = wanted.request.stream
                self._watch()
                return found
            if found is ErrorCode.NO_BACKEND and not self._outwaits(wanted):
                return NoSlot(found)
        return await self._wait(key, wanted)

    def give_back(self, slot: Slot, end: CallEnd) -> None:
        """The call ended like this; whose turn it is gets the slot."""
        self.backends.give_back(slot, end)
        self._serve_all()

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return sum(map(len, self._lines.values()))

    def waiting_by_model(self) -> dict[str, int]:
        """The same, by model; only models that have some."""
        counts: dict[str, int] = {}
        for (model, _), line in self._lines.items():
            counts[model] = counts.get(model, 0) + len(line)
        return counts

    def component(self) -> str:
        """Readiness: ``ok``, or which bound is reached."""
        shed_s = self._shed_at_s
        if shed_s is not None and self.clock.monotonic_s() - shed_s < _SHEDDING_SHOWN_S:
            return f"{DEGRADED}shedding, {self.waiting} wait"
        if self.backends.is_full:
            return f"{DEGRADED}all {self.backends.slots} slots taken"
        return "ok"

    async def _wait(self, key: _Key, wanted: SlotRequest) -> Slot | NoSlot:
        now_s, now_ms, request = self.clock.monotonic_s(), self.clock.now_ms(), wanted.request
        waiting = Waiting(
            request.org,
            wanted.tokens,
            since_s=now_s - _waited_s(wanted, now_ms),
            until_s=now_s + (request.deadline_ms - now_ms) / 1000,
            is_background=request.background,
            item=_Asked(wanted, asyncio.get_running_loop().create_future()),
        )
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(ServedRate(now_s))
            self._turns.append(key)
        elif line.must_refuse(waiting, now_s):
            return self._shed(line, waiting, now_s)
        line.push(waiting)
        self._watch()
        try:
            return await waiting.item.answer
        except asyncio.CancelledError:
            line.leave(waiting)
            if waiting.item.answer.done() and not waiting.item.answer.cancelled():
                given = waiting.item.answer.result()
                if isinstance(given, Slot):
                    self.give_back(given, "undecided")
            raise

    def _outwaits(self, wanted: SlotRequest) -> bool:
        """Background work has time until a backend is well again, if there is one."""
        is_first = wanted.request.background and not wanted.tried
        return is_first and self.backends.has_route(wanted.request.model)

    def _serve_all(self) -> None:
        try:
            self._serve()
        except Exception as defect:  # noqa: BLE001  # total: it is not the fault of whoever gave a slot back
            _LOG.event(LogEvent.ROUND_DEFECT, step="serve lines", defect=defect)

    def _serve(self) -> None:
        """Give what is free to whose turn it is, line by line, until a whole round finds nothing."""
        in_vain = 0
        while in_vain < len(self._turns) and not self.backends.is_full:
            key = self._turns[0]
            self._turns.rotate(-1)
            if self._serve_one(key):
                in_vain = 0
            elif key in self._lines:
                in_vain += 1

    def _serve_one(self, key: _Key) -> bool:
        """Whether somebody of the line got a slot."""
        (model, tried), line = key, self._lines[key]
        found = self.backends.take(model, tried, is_retry=bool(tried))
        if found is ErrorCode.NO_BACKEND:
            for waiting in line.take_out(lambda waiting: not self._outwaits(waiting.item.wanted)):
                _answer(waiting, NoSlot(ErrorCode.NO_BACKEND))
        is_served = isinstance(found, Slot) and self._give_next(line, found)
        if not line:
            self._close(key)
        return is_served

    def _give_next(self, line: Line[_Asked], slot: Slot) -> bool:
        """Whether somebody was there to get it."""
        while (waiting := line.pop(self.clock.monotonic_s())) is not None:
            slot.streams = waiting.item.wanted.request.stream
            if _answer(waiting, slot):
                return True
        self.backends.give_back(slot, "undecided")
        return False

    def _close(self, key: _Key) -> None:
        """Nobody waits in the line any more."""
        del self._lines[key]
        self._turns.remove(key)

    def _watch(self) -> None:
        """Look after calls and lines as long as there are some, by one timer for all."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.backends.look()
            for key, line in list(self._lines.items()):
                self._sweep(line)
                if not line:
                    self._close(key)
        except Exception as defect:  # noqa: BLE001  # total: the other waits are looked after next time
            _LOG.event(LogEvent.ROUND_DEFECT, step="sweep lines", defect=defect)
        self._serve_all()
        if self.backends.calls or self._lines:
            self._watch()

    def _sweep(self, line: Line[_Asked]) -> None:
        """End the waits of those who left, are too late, or have waited for too long."""
        now_s = self.clock.monotonic_s()
        for waiting in line.take_out(lambda waiting: _is_due(waiting, now_s)):
            is_gone = waiting.item.wanted.abort.reason is not None or now_s >= waiting.until_s
            _answer(waiting, NoSlot(None) if is_gone else self._shed(line, waiting, now_s))
        for waiting in line.take_out_hopeless(now_s):
            _answer(waiting, self._shed(line, waiting, now_s))

    def _shed(self, line: Line[_Asked], waiting: Waiting[_Asked], now_s: float) -> NoSlot:
        self._shed_at_s = now_s
        self.metrics.count("tallygate_shed_requests_total")
        return NoSlot(ErrorCode.OVERLOADED, line.retry_after_ms(waiting, now_s))


def _waited_s(wanted: SlotRequest, now_ms: int) -> float:
    """How long it has waited before it came here. Clocks differ: a second here it always gets."""
    if wanted.tried:
        return 0.0
    return min(WAIT_MAX_S - _WAIT_MIN_S, max(0, now_ms - wanted.admitted_at_ms) / 1000)


def _is_due(waiting: Waiting[_Asked], now_s: float) -> bool:
    wanted = waiting.item.wanted
    if wanted.abort.reason is not None or now_s >= waiting.until_s:
        return True
    if wanted.tried:
        return now_s - waiting.since_s >= RETRY_WAIT_S
    return not waiting.is_background and now_s - waiting.since_s >= WAIT_MAX_S


def _answer(waiting: Waiting[_Asked], answer: Slot | NoSlot) -> bool:
    """Whether somebody still waits for it."""
    if waiting.item.answer.done():
        return False
    waiting.item.answer.set_result(answer)
    return True
