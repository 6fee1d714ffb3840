"""Folds stretches: short ones here, long ones in two processes, beside each other and beside this one's event loop."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from accounting.earlier import EarlierRecords
from accounting.rebuild.fold_process import LENGTH_BYTES, Failed, Progress, Reply, Work, framed
from accounting.rebuild.log import Log
from accounting.rebuild.stretches import (
    Count,
    Folded,
    FoldedHours,
    HourStretch,
    OutcomeStretch,
    fold_hours,
    fold_outcomes,
)
from schemas.failures import Defect, Transient

__all__ = ["AT_ONCE", "FoldDefect", "FolderLost", "Folders"]

T = TypeVar("T")

AT_ONCE: Final = 2
"""Processes: as many as there may be cores to spare; each has a stretch in memory."""
_MODULE: Final = "accounting.rebuild.fold_process"
_SILENT_MAX_S: Final = 20.0
_ENDS_WITHIN_S: Final = 5.0
_BUFFER_BYTES: Final = 1024 * 1024
_REPLY: Final = msgspec.msgpack.Decoder(Reply)


class FolderLost(Transient):
    """A process that folded ended, or it could not read."""


class FoldDefect(Defect):
    """A process that folded met what it does not expect."""


@dataclass(slots=True)
class Folders:
    """Folds for the rebuilds of this process. Processes stay for the next stretch until they are ended."""

    earlier: EarlierRecords
    _idle: list[Process] = field(default_factory=list)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def outcomes(self, stretch: OutcomeStretch, log: Log, count: Count) -> Folded:
        """What limits depend on. Raises ``Transient`` and ``FoldDefect``."""
        if stretch.is_long:
            return await self._elsewhere(stretch, count, Folded)
        return await fold_outcomes(stretch, log, self.earlier, count)

    async def hours(self, stretch: HourStretch, log: Log, count: Count) -> FoldedHours:
        """Usage hours. Raises ``Transient`` and ``FoldDefect``."""
        if stretch.is_long:
            return await self._elsewhere(stretch, count, FoldedHours)
        return await fold_hours(stretch, log, count)

    async def end(self) -> None:
        """End the processes that have nothing to do."""
        while self._idle:
            await _end(self._idle.pop())

    async def _elsewhere(self, work: Work, count: Count, kind: type[T]) -> T:
        async with self._turns:
            process = self._idle.pop() if self._idle else await _begin(self.earlier.brokers)
            try:
                reply = await _answer(process, work, count)
            except BaseException:  # Also when this is cancelled: nobody would hear the answer.
                await _end(process)
                raise
            self._idle.append(process)
        if isinstance(reply, Failed):
            raise FoldDefect(reply.why) if reply.is_defect else FolderLost(reply.why)
        if not isinstance(reply, kind):
            raise FoldDefect(f"a {type(reply).__name__} is no {kind.__name__}")
        return reply


async def _begin(brokers: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", _MODULE, stdin=PIPE, stdout=PIPE, limit=_BUFFER_BYTES
    )
    assert process.stdin is not None
    # Not among its arguments, which everybody on the machine may read: there may be a password in it.
    process.stdin.write(msgspec.json.encode(brokers) + b"\n")
    return process


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    with suppress(TimeoutError):
        async with asyncio.timeout(_ENDS_WITHIN_S):
            await process.wait()


async def _answer(process: Process, work: Work, count: Count) -> Reply:
    """What the process comes to; what it says meanwhile is counted."""
    asked = framed(work)
    while True:
        try:
            async with asyncio.timeout(_SILENT_MAX_S):
                reply, asked = await _said(process, asked), b""
        except (TimeoutError, EOFError, ConnectionError) as error:
            raise FolderLost(f"process {process.pid}: {error!r}") from error
        if not isinstance(reply, Progress):
            return reply
        await count(reply.records)


async def _said(process: Process, asked: bytes) -> Reply:
    """What it says next, when it is asked that."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(asked)
    await process.stdin.drain()
    length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES))
    reply: Reply = _REPLY.decode(await process.stdout.readexactly(length))
    return reply
