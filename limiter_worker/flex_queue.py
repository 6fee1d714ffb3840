"""Where flex requests wait until there is room: admitted, and held, only when they are started.

Their records keep their offsets, so nothing is lost with this process; what waits here is bytes as they came, by model
and in turn by organization. One whose deadline passes is asked for at once, and ends so.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from limiter_worker.admission import Admission, Left
from limiter_worker.room import Granted, limiters_in, reports_in, room_of
from limiter_worker.taken import Taken
from limiter_worker.turns import Turns
from schemas.fair_queue import QUANTUM_TOKENS
from schemas.ledger import documents
from schemas.ledger.answers import Look
from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_LOOK_S: Final = 0.5
"""Room is looked for so often while anything waits."""
_REST_S: Final = 30.0
_RESTED_AT_ONCE: Final = 2_048
_BATCH_MAX: Final = 256
_PARKED_S: Final = (0.5, 1.0)

Told: TypeAlias = tuple[Mapping[str, str], Mapping[str, str]]
"""What dispatchers say of backends, and which processes there are: fields and lines in the ledger's store."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: Record
    size: int
    deadline_ms: int


@dataclass(slots=True)
class FlexQueue:
    """Takes flex records, and hands them to admission when there is room."""

    admission: Admission
    clock: Clock
    must_wait: Callable[[], bool]
    """Whether interactive requests are behind."""
    route: Callable[[Left], bool]
    """Takes what is left for a reason of its own; False when it waits here."""
    told: Callable[[], Awaitable[Told]]
    _lines: dict[str, Turns[_Waiting]] = field(default_factory=dict)
    """By model."""
    _granted: Granted = field(default_factory=Granted)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _rested_s: float = 0.0
    _is_closed: bool = False

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def push(self, record: Record) -> None:
        """Line the record up; what is no request is dead-lettered."""
        if self._is_closed:
            return
        for taken in self.admission.take([record]):
            request = taken.accepted.request
            # One call is a turn, unless it is large.
            size = max(QUANTUM_TOKENS, len(record.value or b""))
            line = self._lines.setdefault(request.model, Turns())
            line.push(request.org, size, _Waiting(record, size, request.deadline_ms))
            self._arrived.set()

    async def run(self) -> None:
        """Look for room as long as anything waits, for ever."""
        while True:
            await self._arrived.wait()
            try:
                await self.look()
            except (StoreUnavailable, StoreError) as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="look for room", error=error)
            if not len(self):
                self._arrived.clear()
                continue
            await asyncio.sleep(_LOOK_S * random.uniform(0.5, 1.0))  # noqa: S311  # jitter

    async def look(self) -> None:
        """Ask for those whose deadline passed, and for as many others as there is room for."""
        await self._rest()
        await self._look()
        self.admission.metrics.set("tallygate_flex_waiting_requests", len(self))

    async def _look(self) -> None:
        now_ms = self.clock.now_ms()
        for model, line in list(self._lines.items()):
            overdue = line.take_where(lambda waiting: waiting.deadline_ms <= now_ms)
            await self._ask(model, line, overdue)
        if self.must_wait() or not len(self):
            return
        health, applied = await self.told()
        reports, limiters = reports_in(health, now_ms), limiters_in(applied, now_ms)
        config = self.admission.config.snapshot
        for model, line in sorted(self._lines.items(), key=lambda _: random.random()):  # noqa: S311  # whose turn it is first
            # Of a model that is gone admission says so.
            is_known = model in config.models
            room = room_of(model, config, reports, self._granted, limiters, now_ms)
            room = min(room, _BATCH_MAX) if is_known else _BATCH_MAX
            if room:
                await self._ask(model, line, line.take(self.clock.monotonic_s(), room))

    async def forget(self, *_: Any, **__: Any) -> None:
        """The partitions were revoked: whoever owns them next reads the records again."""
        self._lines.clear()

    async def close(self) -> None:
        """Before the process stops: what waits is read again by whoever comes next."""
        self._is_closed = True
        self._lines.clear()

    async def _ask(
        self, model: str, line: Turns[_Waiting], asked: Sequence[tuple[str, int, _Waiting]]
    ) -> None:
        if not asked:
            return
        waiting = {id(item.record): (org, item) for org, _, item in asked}
        known = await self._known(self.admission.take([item.record for _, _, item in asked]))
        left = []
        for first in range(0, len(known), _BATCH_MAX):
            left += await self.admission.admit(known[first : first + _BATCH_MAX])
        again = {id(taken.record) for taken in known}
        parked: defaultdict[str, list[tuple[int, _Waiting]]] = defaultdict(list)
        stay = {id(each.taken.record) for each in left if not self.route(each)}
        for key, (org, item) in waiting.items():
            if key in stay or (key not in again and not item.record.is_finished):
                parked[org].append((item.size, item))
        self._granted.note(self.clock.now_ms(), model, len(asked) - len(left))
        for org, count in Counter(org for org, _, _ in asked).items():
            again_s = self.clock.monotonic_s() + random.uniform(*_PARKED_S)  # noqa: S311  # jitter
            line.settle(org, count - len(parked[org]), parked[org], again_s)
        if not len(line) and self._lines.get(model) is line:
            del self._lines[model]

    async def _known(self, taken: list[Taken]) -> list[Taken]:
        """Those of which the ledger can tell whether they were decided before: while a rebuild brings jobs back it
        cannot, and one that ended hours ago would run again."""
        looks = await self.admission.ledger.look_many(
            [
                documents.Look(org=t.accepted.request.org, req=t.accepted.request.request_id)
                for t in taken
            ]
        )
        return [
            each
            for each, look in zip(taken, looks, strict=True)
            if isinstance(look, Look) and not look.kept_missing
        ]

    async def _rest(self) -> None:
        """Say of all that wait that somebody looks after them."""
        now_s, now_ms = self.clock.monotonic_s(), self.clock.now_ms()
        if now_s - self._rested_s < _REST_S:
            return
        self._rested_s = now_s
        waiting = [each.record for line in self._lines.values() for each in line]
        for first in range(0, len(waiting), _RESTED_AT_ONCE):
            for record in waiting[first : first + _RESTED_AT_ONCE]:
                record.rest(now_ms)
            await asyncio.sleep(0)  # Tens of thousands may wait, and nobody else for them.
