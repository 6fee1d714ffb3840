"""A worker of its own process whose handler is told by each record's value what to do.

``python -m tests.integration.group_member FILE`` appends a line to the file for whatever it does: ``ready``,
``assigned GENERATION PARTITIONS`` of the consumer group, ``begin VALUE PARTITION OFFSET``, ``end VALUE``. A value is
its name and how long it takes: ``name:seconds``; one named ``block`` blocks the event loop for so long.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from schemas import codec, topics
from schemas.runtime.kafka.consume.flow import Bounds
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.run import run_process
from schemas.runtime.process.settings import WorkerSettings
from schemas.runtime.process.worker import Worker, WorkerShape

_SHAPE = WorkerShape(role="member", produces=(topics.dead_letters_of(topics.REQUESTS),))


class Member:
    """Runs each record as a task, as the dispatcher does."""

    def __init__(self, file: Path) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._file = file.open("a", buffering=1)

    def say(self, *words: object) -> None:
        print(f"{time.time():.3f}", *words, file=self._file)

    async def handle(self, batch: list[Record]) -> None:
        for record in batch:
            task = asyncio.create_task(self._run(record))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _run(self, record: Record) -> None:
        value = (record.value or b"").partition(b"#")[0].decode()
        self.say("begin", value, record.partition, record.offset)
        name, _, seconds = value.partition(":")
        if name == "block":
            time.sleep(float(seconds))  # noqa: ASYNC251  # that is the point
        elif seconds:
            await asyncio.sleep(float(seconds))
        record.finish()
        self.say("end", value)

    async def drain(self) -> None:
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def say_ready(self) -> None:
        self.say("ready")


def main() -> None:
    """Run until SIGTERM."""
    file = Path(sys.argv[1])
    if newer := os.environ.get("MEMBER_KNOWS"):
        # A version that publishes one schema more.
        codec._schemas().writers[int(newer)] = ("Newer", {})

    def create(settings: WorkerSettings) -> Worker:
        worker = Worker.create(settings, _SHAPE)
        member = Member(file)
        bounds = Bounds(records_max=int(os.environ.get("MEMBER_RECORDS_MAX", "4096")))
        worker.read(topics.REQUESTS, member.handle, bounds=bounds, batches_under_way=8)
        worker.before_start.append(member.say_ready)

        async def say_assigned(*assigned: Any, **_: Any) -> None:
            member.say("assigned", worker.app.consumer_generation_id, len(assigned[-1]))

        worker.app.on_partitions_assigned.connect(say_assigned, weak=False)
        worker.before_drain.append(member.drain)
        return worker

    run_process("member", WorkerSettings, create)


if __name__ == "__main__":
    main()
