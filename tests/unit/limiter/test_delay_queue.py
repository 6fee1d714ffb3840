"""The waiting room: nothing is handed over too early, nothing is kept when it must go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from limiter_worker.accepted import Accepted
from limiter_worker.admission import Admission
from limiter_worker.deferral import WaitingCounts
from limiter_worker.delay_queue import ASKED_AT_ONCE, DelayQueue
from limiter_worker.taken import Taken
from schemas.codec import encode
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.topics import DEFERRED_1S
from tests.support.events import ACCEPTED_AT, NOW_MS, accepted
from tests.support.limiter_parts import FakeRecord


class _SetClock(Clock):
    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms


@dataclass
class _Admitting:
    """Reads the due time off a record's offset, and keeps what it is handed."""

    admitted: list[int] = field(default_factory=list)

    def take(self, batch: Sequence[Record]) -> list[Taken]:
        return [
            Taken(
                record,
                Accepted(
                    accepted(), b"", ACCEPTED_AT, NOW_MS, not_before_ms=NOW_MS + record.offset
                ),
            )
            for record in batch
        ]

    def again(self, taken: Taken) -> None:
        self.admitted.append(taken.record.offset)


@dataclass
class _Room:
    clock: _SetClock = field(default_factory=_SetClock)
    admitting: _Admitting = field(default_factory=_Admitting)

    def __post_init__(self) -> None:
        self.room = DelayQueue(
            cast("Admission", self.admitting),
            WaitingCounts(),
            self.clock,
            self.admitting.again,
        )

    async def arrive(self, *due_in_ms: int) -> list[FakeRecord]:
        records = [
            FakeRecord(encode(accepted()), ms, DEFERRED_1S, headers={"request_id": b"r"})
            for ms in due_in_ms
        ]
        await self.room.handle([record.as_record() for record in records])
        return records

    async def running(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run the room beside ``work``, and on until it has nothing more to do."""
        task = asyncio.create_task(self.room.run())
        await work()
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])


async def test_what_is_due_is_handed_over_in_the_order_of_time() -> None:
    """Whatever partition it came from; what is not due stays."""
    room = _Room()
    await room.running(lambda: room.arrive(-5, 60_000, -9, 0))

    assert room.admitting.admitted == [-9, -5, 0]


async def test_a_record_that_is_not_due_holds_nobody_up() -> None:
    """One that arrives later and is due goes first."""
    room = _Room()

    async def both() -> None:
        await room.arrive(60_000)
        await asyncio.sleep(0)
        await room.arrive(-1)

    await room.running(both)

    assert room.admitting.admitted == [-1]


async def test_a_record_is_handed_over_once_its_time_has_come() -> None:
    """And keeps its offset until admission lets it go."""
    room = _Room()
    (record,) = await room.arrive(1_000)
    room.clock.ms += 1_000
    await room.running(room.arrive)

    assert (room.admitting.admitted, record.finished) == ([1_000], 0)


async def test_revoked_records_are_forgotten() -> None:
    """Their next owner reads them again."""
    room = _Room()
    (record,) = await room.arrive(-1)
    await room.room.forget()
    await room.running(room.arrive)

    assert (room.admitting.admitted, record.finished) == ([], 0)


async def test_at_the_stop_what_waits_keeps_its_offset() -> None:
    """Nothing is written again: whoever comes next reads it; so it is with what arrives meanwhile."""
    room = _Room()
    records = await room.arrive(-5, 1_000)
    await room.room.close()
    records += await room.arrive(-2)
    await room.running(room.arrive)

    assert [record.finished for record in records] == [0, 0, 0]
    assert room.admitting.admitted == []


async def test_who_was_asked_for_in_vain_waits_here_until_the_next_time() -> None:
    """Its record stays where it is, and is handed over again when it is due."""
    room = _Room()
    (record,) = await room.arrive(-1)
    await room.running(room.arrive)
    room.room.push(record.as_record(), NOW_MS + 1_000)
    await room.running(room.arrive)
    assert room.admitting.admitted == [-1]

    room.clock.ms += 1_000
    await room.running(room.arrive)
    assert room.admitting.admitted == [-1, -1]


async def test_a_crowd_that_is_due_at_once_is_handed_over_in_handfuls() -> None:
    """The ledger hears of thousands of waiters over many seconds, the earliest first."""
    room = _Room()
    await room.running(lambda: room.arrive(*range(-2_000, 0)))

    assert room.admitting.admitted == list(range(-2_000, -2_000 + ASKED_AT_ONCE))
    assert len(room.room) == 2_000 - ASKED_AT_ONCE
