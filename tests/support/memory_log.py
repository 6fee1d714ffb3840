"""What look-ups find in the log, in memory."""

from __future__ import annotations

import asyncio

from schemas.events import RecordRef, RequestFinished
from schemas.runtime.kafka.outcome_lookup import Absent, Acceptance, Ending, InLog, Unproved
from schemas.runtime.kafka.record_reader import RecordGone, RecordUnreadable
from schemas.runtime.kafka.request_records import Question, Trace


class MemoryTraces:
    """What look-ups find in the log."""

    def __init__(self) -> None:
        self.outcomes: dict[str, RequestFinished] = {}
        self.accepted: dict[str, InLog] = {}
        self.is_readable = True
        self.reads = 0

    async def find_accepted(self, org: str, request_id: str, until_ms: int) -> Acceptance:
        """As it was put there."""
        self.reads += 1
        return self.accepted.get(request_id, Absent()) if self.is_readable else Unproved()

    async def find_outcome(self, org: str, request_id: str, appended_ms: int | None) -> Ending:
        """As it was put there."""
        self.reads += 1
        return self.outcomes.get(request_id, Absent()) if self.is_readable else Unproved()

    async def stop(self) -> None:
        """Nothing is connected."""


class MemoryRecords:
    """Records of the log by their place."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int, int], bytes] = {}
        self.reads = 0
        self.is_away = False

    async def read(self, ref: RecordRef, within_s: float) -> bytes | None:
        """The value that was put there."""
        self.reads += 1
        if self.is_away:
            raise RecordUnreadable("away")
        place = (ref.topic, ref.partition, ref.offset)
        if place not in self.values:
            raise RecordGone("gone")
        return self.values[place]

    async def stop(self) -> None:
        """Nothing is connected."""


class MemoryTrails:
    """What is found of a request when its caller asks."""

    def __init__(self, records: MemoryRecords) -> None:
        self.read = records.read
        self.trace: Trace = Absent()
        self.asked: list[Question] = []
        self.readable = asyncio.Event()
        self.readable.set()

    async def find(self, question: Question) -> Trace:
        """As it was put there, once the log can be read."""
        self.asked.append(question)
        await self.readable.wait()
        return self.trace

    async def stop(self) -> None:
        """Nothing is connected."""
